# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext label`, in this process: what it writes, refuses and leaves alone."""

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.processor.converters import batch_to_transition, transition_to_batch
from toy_reward_model import CAMERA, save_toy_reward_model

from lerobot_ext.cli.main import main
from lerobot_ext.labelling import exchange, rewrite
from lerobot_ext.repair.survey import survey

LENGTHS = (6, 9, 4)
WON = (True, False, True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Three episodes as LeRobot writes them, with video and `next.done`."""
    root = tmp_path_factory.mktemp("recorded") / "set"
    features = {
        CAMERA: {"dtype": "video", "shape": (48, 64, 3), "names": ["height", "width", "channels"]},
        "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create("me/set", 10, features, root=root)
    dataset.writer._rgb_encoder = type(dataset.writer._rgb_encoder)(vcodec="h264")
    for length, won in zip(LENGTHS, WON, strict=True):
        for step in range(length):
            dataset.add_frame(
                {
                    CAMERA: np.full((48, 64, 3), 20 * step, np.uint8),
                    "observation.state": np.array([step, 1], np.float32),
                    "action": np.array([step, 2], np.float32),
                    "next.done": np.array([won and step == length - 1]),
                    "task": "lift",
                }
            )
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return root


@pytest.fixture
def root(recorded, tmp_path) -> Path:
    return shutil.copytree(recorded, tmp_path / "set")


def _column(root: Path, name: str) -> np.ndarray:
    return pq.read_table(root / "data/chunk-000/file-000.parquet").column(name).to_numpy(zero_copy_only=False)


def _content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def label(*words: object) -> int:
    return main(["label", *map(str, words)])


def test_step_cost_in_place_adds_reward_success_and_returns(root):
    assert label(root, "--reward", "step_cost", "--in-place", "--discount", "0.5") == 0

    reward = _column(root, "next.reward")
    assert reward[:6].tolist() == [-1] * 5 + [0]
    assert reward[6:15].tolist() == [-1] * 9
    assert _column(root, "next.success").nonzero()[0].tolist() == [5, 18]
    assert _column(root, "mc_return")[3:6].tolist() == [-1.5, -1.0, 0.0]


def test_lerobot_and_repair_find_nothing_wrong_with_it(root):
    label(root, "--reward", "sparse_success", "--in-place")

    dataset = LeRobotDataset("me/set", root=root)
    assert not survey(root).findings
    assert dataset.features["next.reward"] == {"dtype": "float32", "shape": (1,), "names": None}
    assert dataset.meta.stats["next.reward"]["mean"] == pytest.approx([2 / 19])
    assert dataset[5][CAMERA].shape == (3, 48, 64)
    assert float(dataset[5]["next.reward"]) == 1.0


def test_a_recording_goes_on_after_it(root):
    label(root, "--reward", "sparse_success", "--in-place")
    dataset = LeRobotDataset.resume("me/set", root=root)
    frame = {name: np.zeros(2, np.float32) for name in ("observation.state", "action")}
    frame |= {name: np.zeros(1, np.float32) for name in ("next.reward", "mc_return")}
    frame |= {name: np.zeros(1, bool) for name in ("next.done", "next.success")}
    for _ in range(3):
        dataset.add_frame({**frame, CAMERA: np.zeros((48, 64, 3), np.uint8), "task": "lift"})
    dataset.save_episode(parallel_encoding=False)
    dataset.finalize()

    assert LeRobotDataset("me/set", root=root).num_episodes == 4
    assert not survey(root).findings


def test_only_a_return_called_observation_reaches_a_policy(root):
    label(root, "--reward", "sparse_success", "--in-place", "--return-name", "observation.mc_return")

    batch = transition_to_batch(batch_to_transition(dict(LeRobotDataset("me/set", root=root)[5])))
    assert {"next.reward", "observation.mc_return"} <= batch.keys()
    assert "next.success" not in batch


def test_a_new_dataset_links_its_videos_and_leaves_the_old_one(root, tmp_path):
    before = _content(root)

    assert label(root, "--reward", "sparse_success", "--out", tmp_path / "new") == 0

    assert _content(root) == before
    video = next((root / "videos").rglob("*.mp4"))
    assert video.samefile(tmp_path / "new" / video.relative_to(root))
    assert _column(tmp_path / "new", "next.reward").sum() == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "set"]


def test_labels_can_be_changed_again(root):
    label(root, "--reward", "sparse_success", "--in-place")
    label(root, "--reward", "step_cost", "--success-from", "all", "--in-place", "--return-name", "none")

    assert _column(root, "next.reward").sum() == -(6 + 9 + 4) + 3
    stats = json.loads((root / "meta/stats.json").read_text())
    assert stats["next.reward"]["min"] == [-1.0]


def test_dry_run_writes_a_plot_and_nothing_else(root, tmp_path, capsys):
    before = _content(root)

    code = label(root, "--reward", "step_cost", "--dry-run", "--plot", tmp_path / "r.png")

    assert code == 0
    assert _content(root) == before
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert "2 of 3 episodes succeeded" in capsys.readouterr().out


def test_a_csv_of_episodes_and_one_of_frames(root, tmp_path):
    (tmp_path / "e.csv").write_text("episode_index,reward,success\n0,0.5,yes\n1,2,no\n2,-1,1\n")
    label(
        root, "--reward", "csv", tmp_path / "e.csv", "--success-from", "csv", tmp_path / "e.csv", "--in-place"
    )
    assert _column(root, "next.reward")[[5, 14, 18]].tolist() == [0.5, 2, -1]
    assert _column(root, "next.success").nonzero()[0].tolist() == [5, 18]

    rows = [f"{e},{f},{e + f / 10}" for e, length in enumerate(LENGTHS) for f in range(length)]
    (tmp_path / "f.csv").write_text("\n".join(["episode_index,frame_index,reward", *rows]))
    label(root, "--reward", "csv", tmp_path / "f.csv", "--in-place")
    assert _column(root, "next.reward")[[0, 7, 18]] == pytest.approx([0, 1.1, 2.3])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("episode,reward\n0,1\n", "no column `episode_index`"),
        ("episode_index,reward\n0,1\n1,1\n", "1 rows are missing, the first for episode 2"),
        ("episode_index,reward\n0,1\n1,1\n2,1\n3,1\n", "episode 3 is not in the dataset"),
        ("episode_index,reward\n0,1\n1,1\n2,nan\n", "line 4: `reward` is nan"),
        ("episode_index,reward\n0,1\n0,1\n1,one\n2,1\n", "line 3: episode 0 is there twice; line 4"),
        ("episode_index,success\n0,1\n1,1\n2,1\n", "no column `reward`"),
        ("", "no column `episode_index`"),
        ("\xff\xfe", "cannot be read"),
    ],
)
def test_a_wrong_csv_is_refused_and_nothing_changes(text, says, root, tmp_path, capsys):
    before = _content(root)
    (tmp_path / "e.csv").write_bytes(text.encode("latin-1"))

    code = label(root, "--reward", "csv", tmp_path / "e.csv", "--in-place")

    assert code == 2
    assert says in capsys.readouterr().err
    assert _content(root) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--reward dense --dry-run", "--reward dense is not known"),
        ("--reward keep --dry-run", "no column `next.reward` to keep"),
        ("--reward sparse_success --success-from success --dry-run", "no column `next.success`"),
        ("--reward sparse_success --success-from luck --dry-run", "--success-from luck is not known"),
        ("--reward step_cost --discount 1.5 --dry-run", "--discount is 1.5"),
        ("--reward csv --dry-run", "needs a FILE"),
        ("--reward model --dry-run", "needs a PATH"),
        ("--reward step_cost --dry-run --plot r.gif", "no known format"),
        ("--reward step_cost --dry-run --return-name action", "cannot be used"),
        ("--reward model nowhere/to/be/found --dry-run", "cannot be loaded"),
    ],
)
def test_what_cannot_be_meant_is_refused(words, says, root, capsys):
    assert label(root, *words.split()) == 2
    assert says in capsys.readouterr().err


def test_a_stock_reward_models_output_becomes_the_reward(root, tmp_path):
    model = save_toy_reward_model(tmp_path)

    assert label(root, "--reward", "model", model, "--in-place") == 0

    brightness = 2 * 20 * np.arange(6) / 255
    assert _column(root, "next.reward")[:6] == pytest.approx(brightness, abs=0.03)


def test_a_folder_that_is_there_is_not_overwritten(root, tmp_path, capsys):
    (tmp_path / "new").mkdir()

    assert label(root, "--reward", "step_cost", "--out", tmp_path / "new") == 2
    assert "is there already" in capsys.readouterr().err


def test_a_cut_off_recording_is_repaired_first(root, capsys):
    (root / "meta/journal").mkdir()

    assert label(root, "--reward", "step_cost", "--in-place") == 2
    assert "lerobot-ext repair" in capsys.readouterr().err


def test_a_kill_at_any_file_leaves_the_old_dataset_whole(root):
    before = _content(root)
    n_files = len(before) - 2  # info.json and stats.json come last, without being told

    for count in range(1, n_files + 1):
        process = multiprocessing.get_context("fork").Process(target=_killed, args=(root, count))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert _content(root) == before

    assert label(root, "--reward", "step_cost", "--in-place") == 0
    assert not survey(root).findings
    assert [path.name for path in root.parent.iterdir()] == ["set"]


def _killed(root: Path, at_file: int) -> None:
    """Label in a process that kills itself before its `at_file`-th file."""
    from lerobot_ext.labelling.episodes import read_episodes

    found = read_episodes(root)
    features = {"next.reward": {"dtype": "float32", "shape": [1], "names": None}}
    count = 0

    def tell(path: Path) -> None:
        nonlocal count
        count += 1
        if count == at_file:
            os.kill(os.getpid(), signal.SIGKILL)

    rewrite.write_labelled(found, {"next.reward": np.ones(19, np.float32)}, features, root, tell)


def test_where_names_cannot_be_swapped_a_kill_in_between_is_undone(root, monkeypatch, tmp_path):
    monkeypatch.setattr(exchange, "_swapped", lambda one, other: False)
    before = _content(root)
    real = os.rename

    def dies(source, target):
        real(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(exchange.os, "rename", dies)
    (tmp_path / "other").mkdir()
    with pytest.raises(KeyboardInterrupt):
        exchange.exchange(tmp_path / "other", root)
    monkeypatch.setattr(exchange.os, "rename", real)
    assert not root.exists()

    exchange.recover(root)

    assert _content(root) == before
    exchange.exchange(tmp_path / "other", root)
    assert list(root.iterdir()) == []
