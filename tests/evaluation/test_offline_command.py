# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext offline-eval` on stock policies that always want the same, so that their error is known."""

import csv
import json
import re

import numpy as np
import pytest
from open_loop import LENGTHS, NAMES, TASKS, action_at, shapes, write_dataset
from PIL import Image
from serving_checkpoints import save
from stock_cli import run

from lerobot_ext.cli.main import main
from lerobot_ext.evaluation.offline import short_names
from lerobot_ext.evaluation.trained_on import training_note

TARGET = [1.0, 2.0, 3.0]
FRAMES = np.array([action_at(index, frame) for index in range(3) for frame in range(LENGTHS[index])])


def save_constant(folder, target=TARGET, horizon=4, **feature):
    """A small stock ACT that wants `target`, whatever it sees."""
    import torch

    def constant(policy):
        policy.model.action_head.weight.zero_()
        policy.model.action_head.bias.copy_(torch.tensor(target))

    small = {
        "chunk_size": horizon,
        "n_action_steps": horizon,
        "dim_model": 16,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "use_vae": False,
        "pretrained_backbone_weights": None,
    }
    return save(folder, "act", shapes(**feature), constant, **small)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline")
    write_dataset(folder / "data", camera=True)
    save_constant(folder / "act", camera=True)
    save_constant(folder / "other", [0.0, 0.0, 0.0], horizon=2)
    return folder


def words(place, *more):
    return ["--dataset.repo_id=user/known", f"--dataset.root={place / 'data'}", *more]


def snapshot(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


def test_a_stock_policy_is_compared_through_its_own_processors(place, tmp_path, capsys):
    before = snapshot(place / "data")
    out = tmp_path / "out"
    paths = [f"--policy.path={place / name}" for name in ("act", "other")]
    more = ["--out", str(out), "--every", "2", "--json"]
    assert main(["offline-eval", *paths, *words(place, *more)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["joints"] == NAMES
    assert (said["frames"], said["episodes"], said["compared_steps"]) == (16, [0, 1, 2], 2)
    one, two = (policy["modes"]["select"]["errors"]["whole"] for policy in said["policies"])
    for found, target in ((one, TARGET), (two, [0.0, 0.0, 0.0])):
        apart = np.array(target) - FRAMES
        assert [entry["value"] for entry in found["joint_mse"]] == pytest.approx((apart**2).mean(0), rel=1e-5)
        assert [entry["value"] for entry in found["joint_l1"]] == pytest.approx(
            np.abs(apart).mean(0), rel=1e-5
        )
        assert found["joint_max"] == pytest.approx(np.abs(apart).max(0), rel=1e-5)
    assert [policy["name"] for policy in said["policies"]] == ["act", "other"]
    assert set(said["baselines"]) == {"select", "chunk"}
    assert len(said["policies"][0]["modes"]["chunk"]["errors"]["by_horizon"]) == 4
    assert json.loads((out / "offline_eval.json").read_text())["policies"] == said["policies"]
    assert snapshot(place / "data") == before


def test_files_for_people_and_for_programs_are_written(place, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["offline-eval", f"--policy.path={place / 'act'}", *words(place, "--out", str(out))]) == 0
    said = capsys.readouterr().out
    assert "3 episodes (16 frames) of user/known" in said
    assert "hold the present state" in said
    assert "MSE by task" in said
    with open(out / "offline_eval.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    mine = [row for row in rows if row["predictor"] == "act" and row["mode"] == "select"]
    whole = {row["joint"]: row for row in mine if row["task"] == "all"}
    apart = np.array(TARGET) - FRAMES
    assert list(whole) == NAMES
    assert float(whole["claw.pos"]["mse"]) == pytest.approx((apart[:, 2] ** 2).mean(), rel=1e-5)
    assert float(whole["claw.pos"]["mse_low"]) <= float(whole["claw.pos"]["mse"])
    assert {row["task"] for row in mine} == {"all", *TASKS}
    steps = {row["horizon_step"] for row in rows if row["mode"] == "chunk" and row["predictor"] == "act"}
    assert steps == {"all", "0", "1", "2", "3"}
    for name in ("trajectory", "joints", "horizon"):
        image = Image.open(out / f"{name}.png").convert("RGB")
        assert image.width > 500
        assert len(image.getcolors(1 << 24)) > 20
    page = (out / "offline_eval.html").read_text()
    assert page.count("<svg") == 3
    assert not re.search(r"<script|<link|@import|(src|href)=\"(?!#)", page)


def test_the_same_seed_gives_the_same_figures(place, tmp_path, capsys):
    save(
        tmp_path / "diffusion",
        "diffusion",
        shapes(),
        n_obs_steps=2,
        horizon=8,
        n_action_steps=4,
        down_dims=(16, 32),
        n_groups=4,
        num_inference_steps=2,
    )
    runs = []
    for seed in ("1", "1", "2"):
        asked = words(place, "--episodes", "0,2", "--every", "3", "--seed", seed, "--no-pictures", "--json")
        out = ["--out", str(tmp_path / f"out{len(runs)}")]
        assert main(["offline-eval", str(tmp_path / "diffusion"), *asked, *out]) == 0
        modes = json.loads(capsys.readouterr().out)["policies"][0]["modes"]
        runs.append([modes[name]["errors"] for name in ("select", "chunk")])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_videos_are_read(tmp_path, capsys):
    from lerobot.configs import FeatureType, PolicyFeature
    from video_dataset import CAMERAS
    from video_dataset import write_dataset as write_videos

    root = write_videos(tmp_path / "data", "h264")
    features = {
        "input_features": {
            "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
            **{camera: PolicyFeature(FeatureType.VISUAL, (3, 64, 96)) for camera in CAMERAS},
        },
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (2,))},
    }
    small = {"dim_model": 16, "n_heads": 2, "dim_feedforward": 16, "n_encoder_layers": 1, "use_vae": False}
    save(
        tmp_path / "act",
        "act",
        features,
        chunk_size=3,
        n_action_steps=3,
        pretrained_backbone_weights=None,
        **small,
    )
    asked = ["--dataset.repo_id=user/small", f"--dataset.root={root}", "--mode", "chunk", "--every", "4"]
    words = ["--no-pictures", "--json", "--out", str(tmp_path / "out")]
    assert main(["offline-eval", str(tmp_path / "act"), *asked, *words]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["policies"][0]["modes"]["chunk"]["errors"]["whole"]["n"] > 0
    assert set(said["policies"][0]["modes"]) == {"chunk"}


def test_options_of_the_policy_change_every_checkpoint(place, tmp_path, capsys):
    asked = words(place, "--policy.n_action_steps=1", "--mode", "select", "--no-pictures", "--json")
    assert main(["offline-eval", str(place / "other"), *asked, "--out", str(tmp_path / "out")]) == 0
    mode = json.loads(capsys.readouterr().out)["policies"][0]["modes"]["select"]
    assert mode["latency"]["select_action, planning"]["calls"] == sum(LENGTHS) - 1
    assert mode["smoothness"]["boundaries"] == sum(LENGTHS) - 3


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["{act}", "--dataset.repo_id=user/known", "--dataset.root={empty}"], "holds no folder `meta`"),
        (["{act}"], "there is no dataset"),
        (["{data_words}"], "there is no policy"),
        (["{act}", "{data_words}", "--policy.type=act"], "has learned nothing"),
        (["{act}", "{act}", "{data_words}"], "is named twice"),
        (["{empty}", "{data_words}"], "lacks policy_preprocessor.json"),
        (["{empty}/none", "{data_words}"], "there is no such folder"),
        (["{act}", "{data_words}", "--episodes", "7"], "there is no episode 7"),
        (["{act}", "{data_words}", "--episodes", "0", "--dataset.episodes=[1]"], "are both given"),
        (["{act}", "{data_words}", "--dataset.episodes=[5]"], "there is no episode 5"),
        (["{act}", "{data_words}", "--dataset.fps=3"], "options cannot be read"),
        (["{act}", "{data_words}", "--policy.chunks=3"], "--policy options cannot be read"),
        (["{act}", "{data_words}", "--rename_map", "[1]"], "no JSON object of names"),
        (["{act}", "{data_words}", "--out", "{data}/eval"], "lies in the dataset"),
        (["{wide}", "{data_words}"], "does not fit the dataset: observation.state: the policy takes"),
        (
            ["{act}", "{data_words}", "--rename_map", '{"observation.state": "observation.s"}'],
            "does not fit the dataset: observation.state",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(place, tmp_path, more, says, capsys):
    (tmp_path / "empty").mkdir()
    wide = shapes()
    wide["input_features"]["observation.state"].shape = (5,)
    names = {"act": str(place / "act"), "empty": str(tmp_path / "empty"), "data": str(place / "data")}
    if "{wide}" in more:
        names["wide"] = str(save(tmp_path / "wide", "act", wide, dim_model=16, n_heads=2, dim_feedforward=16))
    asked = []
    for word in more:
        for name, value in names.items():
            word = word.replace("{" + name + "}", value)
        asked += words(place) if word == "{data_words}" else [word]
    try:
        code = main(["offline-eval", "--out", str(tmp_path / "out"), "--no-pictures", *asked])
    except SystemExit as ended:  # argparse of LeRobot's own options
        code = ended.code
    said = capsys.readouterr().err
    assert code == 2
    assert says in said
    assert "remedy: " in said


def test_checkpoints_are_named_so_that_they_can_be_told_apart():
    assert short_names(["a/lift", "b/place"]) == ["lift", "place"]
    assert short_names(["a/lift", "b/lift"]) == ["a/lift", "b/lift"]
    runs = [f"outputs/lift/checkpoints/{step}/pretrained_model" for step in ("010000", "last")]
    assert short_names(runs) == ["lift/010000", "lift/last"]


def test_episodes_of_the_training_are_reported(tmp_path):
    tasks = [["lift"]] * 10
    assert training_note(tmp_path, "user/known", [0], tasks) == ""
    for dataset, episodes, says in (
        ({"repo_id": "user/known"}, [8, 9], "2 of these 2"),
        ({"repo_id": "user/known", "eval_split": 0.1}, [8, 9], "1 of these 2"),
        ({"repo_id": "user/known", "eval_split": 0.2}, [8, 9], ""),
        ({"repo_id": "user/known", "episodes": [1, 2, 40]}, [0, 2], "1 of these 2"),
        ({"repo_id": "user/other"}, [0], ""),
    ):
        (tmp_path / "train_config.json").write_text(json.dumps({"dataset": dataset}))
        said = training_note(tmp_path, "user/known", episodes, tasks)
        assert said.startswith(says), dataset
        assert bool(said) == bool(says)
    (tmp_path / "train_config.json").write_text("{")
    assert training_note(tmp_path, "user/known", [0], tasks) == ""


@pytest.mark.slow
def test_the_command_line_evaluates_what_the_stock_trainer_left(tmp_path):
    from stock_loop import LOOP, POLICY
    from stock_loop import write_dataset as write_tiny

    dataset = write_tiny(tmp_path / "data", episodes=4)
    split = "--dataset.eval_split=0.25"
    trained = ["--steps=2", f"--output_dir={tmp_path / 'run'}"]
    done = run(tmp_path, "lerobot-train", *dataset, split, *POLICY, *LOOP, *trained)
    assert done.returncode == 0, done.stderr[-3000:]
    checkpoint = f"--policy.path={tmp_path / 'run/checkpoints/last/pretrained_model'}"
    out = ["--out", str(tmp_path / "eval"), "--json"]
    done = run(tmp_path, "lerobot-ext", "offline-eval", checkpoint, *dataset, split, *out)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said["episodes"] == [3]
    assert said["policies"][0]["name"] == "run/last"
    assert said["policies"][0]["notes"] == []
    assert said["policies"][0]["modes"]["select"]["errors"]["whole"]["n"] == 24
    assert (tmp_path / "eval/offline_eval.html").is_file()
