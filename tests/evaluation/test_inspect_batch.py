# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext inspect-batch` on stock policies: what it shows, and what it finds."""

import json
import math

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from open_loop import LENGTHS, shapes, write_dataset
from stock_cli import run

from lerobot_ext.cli.main import main

SMALL = [
    "--policy.device=cpu",
    "--policy.dim_model=16",
    "--policy.n_heads=2",
    "--policy.dim_feedforward=16",
    "--policy.n_encoder_layers=1",
    "--policy.chunk_size=3",
    "--policy.n_action_steps=3",
    "--policy.use_vae=false",
]
ACT = ["--policy.type=act", *SMALL, "--batch_size=4"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    write_dataset(folder / "data")
    return folder


def words(root):
    return ["--dataset.repo_id=user/known", f"--dataset.root={root}"]


def inspect(capsys, *asked):
    code = main(["inspect-batch", *asked, "--json"])
    return code, json.loads(capsys.readouterr().out)


def kinds(said, level=None):
    return {(item["kind"], item["subject"]) for item in said["findings"] if level in (None, item["level"])}


def test_a_batch_is_followed_from_the_frame_to_the_policy(place, capsys):
    code, said = inspect(capsys, *words(place / "data"), *ACT)
    assert code == 0
    assert said["ok"]
    assert said["forward"] is None
    names = [entry["name"] for entry in said["stages"]]
    assert names[:3] == ["dataset item (frame 0)", "collated batch", "as LeRobot's transition"]
    assert names[-2:] == ["preprocessor step 4 normalizer_processor", "what policy.forward receives"]
    shapes_of = {
        entry["name"]: {k: v["shape"] for k, v in entry["values"].items()} for entry in said["stages"]
    }
    assert shapes_of[names[0]]["action"] == [3, 3]
    assert shapes_of[names[1]]["action"] == [4, 3, 3]
    assert shapes_of[names[-1]]["observation.state"] == [4, 3]
    normalised = next(entry for entry in said["stages"] if entry["name"] == names[-2])
    assert normalised["changes"]["observation.state"] == "values"
    assert "frame_index" in said["stages"][2]["changes"]


def test_forward_shows_the_loss_and_each_submodule(place, capsys):
    code, said = inspect(capsys, *words(place / "data"), *ACT, "--forward")
    assert code == 0
    assert math.isfinite(said["forward"]["loss"])
    assert said["forward"]["log"]["l1_loss"] == pytest.approx(said["forward"]["loss"])
    modules = {entry["name"]: entry for entry in said["forward"]["modules"]}
    assert modules["model.action_head"]["inputs"][0]["shape"] == [4, 3, 16]
    assert modules["model.action_head"]["outputs"][0]["shape"] == [4, 3, 3]
    assert modules["model.decoder"]["type"] == "ACTDecoder"
    assert "model.decoder.layers" not in modules
    _, shallow = inspect(capsys, *words(place / "data"), *ACT, "--forward", "--depth", "1")
    assert [entry["name"] for entry in shallow["forward"]["modules"]] == ["model"]


def test_a_kind_of_feature_that_is_not_normalised_is_found_and_the_remedy_helps(place, capsys):
    code, said = inspect(capsys, *words(place / "data"), *ACT, "--batch_size=16")
    assert code == 0
    assert kinds(said) == {("not_normalised", "observation.environment_state")}
    remedy = said["findings"][0]["remedy"]
    option = remedy.partition(" in the training")[0].replace("'", "")
    _, said = inspect(capsys, *words(place / "data"), *ACT, "--batch_size=16", option)
    assert kinds(said) == set()


def save_act(folder, width):
    from serving_checkpoints import save

    features = shapes()
    features["input_features"]["observation.state"].shape = (width,)
    small = {"dim_model": 16, "n_heads": 2, "dim_feedforward": 16, "n_encoder_layers": 1, "use_vae": False}
    return save(folder, "act", features, chunk_size=3, n_action_steps=3, **small)


def test_a_size_mismatch_is_traced_to_where_it_comes_from(place, tmp_path, capsys):
    save_act(tmp_path / "wide", 5)
    asked = [*words(place / "data"), f"--policy.path={tmp_path / 'wide'}", "--policy.device=cpu", "--forward"]
    code, said = inspect(capsys, *asked)
    assert code == 1
    assert said["failed_at"] == "policy.forward"
    assert said["forward"]["failed_in"] == "model.encoder_robot_state_input_proj"
    assert "cannot be multiplied" in said["error"]
    problems = {item["subject"]: item["message"] for item in said["findings"] if item["level"] == "problem"}
    assert "configured for (5,) and gets (3,), so since: dataset item" in problems["observation.state"]
    assert main(["inspect-batch", *asked]) == 1
    text = capsys.readouterr().out
    assert "FAILED" in text
    assert "policy.forward, in model.encoder_robot_state_input_proj: RuntimeError" in text
    assert "what policy.forward receives" in text


def test_a_policy_that_cannot_be_made_leaves_what_was_seen_so_far(place, capsys):
    code, said = inspect(capsys, *words(place / "data"), *ACT, "--policy.n_heads=5")
    assert code == 1
    assert said["failed_at"] == "making the policy"
    assert [entry["name"] for entry in said["stages"]] == ["dataset item (frame 0)"]
    assert kinds(said) == {("failed", "making the policy")}


def test_a_step_that_fails_is_named(place, capsys, monkeypatch):
    from lerobot.processor import NormalizerProcessorStep

    def fail(self, transition):
        raise KeyError("observation.state")

    monkeypatch.setattr(NormalizerProcessorStep, "__call__", fail)
    code, said = inspect(capsys, *words(place / "data"), *ACT)
    assert code == 1
    assert said["failed_at"] == "preprocessor step 4 normalizer_processor"
    assert said["stages"][-1]["name"] == "preprocessor step 3 device_processor"


def test_a_policy_that_gives_nan_is_told_by_its_module(place, capsys, monkeypatch):
    from lerobot.policies.act.modeling_act import ACTDecoder

    forward = ACTDecoder.forward
    monkeypatch.setattr(ACTDecoder, "forward", lambda *w, **n: forward(*w, **n) * torch.nan)
    code, said = inspect(capsys, *words(place / "data"), *ACT, "--forward")
    assert code == 1
    assert {("not_finite", "model.decoder"), ("loss", "policy.forward")} <= kinds(said, "problem")
    assert ("not_finite", "model.action_head") not in kinds(said)
    assert said["forward"]["loss"] is None


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A dataset with a column that LeRobot drops, a joint that never moves, NaN, wrong statistics."""
    root = tmp_path_factory.mktemp("troubled") / "data"
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["still", "moving"]},
        "observation.force": {"dtype": "float32", "shape": (1,), "names": None},
        "weight": {"dtype": "float32", "shape": (1,), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
    }
    dataset = LeRobotDataset.create("user/known", 10, features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for frame in range(40):
        row = {
            "observation.state": np.array([7.0, frame], np.float32),
            "observation.force": np.array([math.nan if frame % 2 else 0.0], np.float32),
            "weight": np.ones(1, np.float32),
            "action": rng.normal(size=2).astype(np.float32),
            "task": "lift",
        }
        dataset.add_frame(row)
    dataset.save_episode()
    dataset.finalize()
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    stats["action"]["std"] = [1e-3, 1.0]
    path.write_text(json.dumps(stats))
    return root


def test_what_is_wrong_with_a_batch_is_found(troubled, capsys):
    # ACT wants a picture or an environment state; the dataset has neither.
    code, said = inspect(
        capsys,
        *words(troubled),
        *ACT,
        "--policy.input_features="
        '{"observation.state": {"type": "STATE", "shape": [2]}, "observation.environment_state": '
        '{"type": "ENV", "shape": [3]}}',
    )
    assert code == 1
    problems, notes = kinds(said, "problem"), kinds(said, "note")
    assert ("not_finite", "observation.force") in problems
    assert ("feature_missing", "observation.environment_state") in problems
    assert ("column_dropped", "weight") in notes
    assert ("feature_unused", "observation.force") in notes
    assert ("constant", "observation.state") in notes
    assert ("normalised_far", "action") in notes
    assert all(item["remedy"] for item in said["findings"])
    message = next(item["message"] for item in said["findings"] if item["kind"] == "constant")
    assert message == "still never moves in the whole dataset"


def test_pixels_that_are_no_fractions_are_found(tmp_path, capsys, monkeypatch):
    root = write_dataset(tmp_path / "data", camera=True)
    get = LeRobotDataset.__getitem__

    def brighter(self, index):
        item = get(self, index)
        item["observation.images.top"] = item["observation.images.top"].float() + 3
        return item

    monkeypatch.setattr(LeRobotDataset, "__getitem__", brighter)
    code, said = inspect(capsys, *words(root), *ACT, "--policy.pretrained_backbone_weights=null")
    assert code == 1
    assert kinds(said, "problem") == {("picture_range", "observation.images.top")}


def test_windows_longer_than_the_episodes_are_found(place, capsys):
    longest = max(LENGTHS)
    asked = ["--policy.chunk_size=40", "--policy.n_action_steps=40"]
    code, said = inspect(capsys, *words(place / "data"), *ACT, *asked)
    assert code == 0
    assert ("padding", "action") in kinds(said, "note")
    message = next(item["message"] for item in said["findings"] if item["kind"] == "padding")
    assert int(message.split(" %")[0]) >= 100 * (40 - longest) // 40


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--dataset.repo_id=user/known"], "there is no policy"),
        (["--policy.type=act"], "there is no dataset"),
    ],
)
def test_what_cannot_be_inspected_is_said_in_one_line(asked, says, capsys):
    assert main(["inspect-batch", *asked]) == 2
    assert says in capsys.readouterr().err


def test_the_trainer_is_left_as_it_was(place, capsys):
    from lerobot.scripts import lerobot_train

    names = ("make_policy", "make_pre_post_processors", "cycle", "update_policy", "init_logging", "tqdm")
    before = [getattr(lerobot_train, name) for name in names]
    inspect(capsys, *words(place / "data"), *ACT)
    assert [getattr(lerobot_train, name) for name in names] == before


@pytest.mark.slow
def test_the_command_line_shows_tables_and_leaves_nothing(tmp_path):
    write_dataset(tmp_path / "data", camera=True)
    asked = [*words(tmp_path / "data"), *ACT, "--policy.pretrained_backbone_weights=null", "--forward"]
    done = run(tmp_path, "lerobot-ext", "inspect-batch", *asked)
    assert done.returncode == 0, done.stderr[-3000:]
    for says in ("collated batch", "normalizer_processor", "model.backbone", "loss ", "(4, 3, 24, 32)"):
        assert says in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
