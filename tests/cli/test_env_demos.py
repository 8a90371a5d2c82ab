# SPDX-License-Identifier: Apache-2.0
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import warm_start
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_env_koch.constants import ENVIRONMENT_STATE_NAMES, MOTOR_KEYS
from lerobot_env_koch.demos.recorder import DemoOptions, record_demos
from lerobot_env_koch.tasks import Region
from stock_cli import BIN

STATE_FEATURES = {
    "action": (6,),
    "observation.state": (6,),
    "observation.environment_state": (7,),
    "next.reward": (1,),
    "next.done": (1,),
    "next.success": (1,),
}


def lerobot_ext(*arguments: object) -> subprocess.CompletedProcess[str]:
    return warm_start.run([BIN / "lerobot-ext", *map(str, arguments)], timeout=240)


def load(root: Path, repo_id: str = "local/koch_lift") -> LeRobotDataset:
    return LeRobotDataset(repo_id, root=root, video_backend="pyav")


@pytest.mark.slow
def test_command_writes_a_dataset_that_lerobot_loads(tmp_path: Path) -> None:
    root = tmp_path / "demos"
    run = lerobot_ext("demos", "--root", root, "--episodes", 2, "--with-images", "--image-size", 64)
    assert run.returncode == 0, run.stderr
    assert "2 episodes (2 successful)" in run.stdout
    dataset = load(root)
    assert dataset.meta.robot_type == "koch_follower"
    assert dataset.meta.fps == 30
    assert dataset.meta.total_episodes == 2
    assert dataset.features["action"]["names"] == list(MOTOR_KEYS)
    assert dataset.features["observation.environment_state"]["names"] == list(ENVIRONMENT_STATE_NAMES)
    item = dataset[0]
    for camera in ("top", "wrist"):
        assert dataset.features[f"observation.images.{camera}"]["dtype"] == "video"
        assert tuple(item[f"observation.images.{camera}"].shape) == (3, 64, 64)
    assert item["task"] == "Lift the red cube."


@pytest.mark.slow
def test_bad_option_is_one_clear_line(tmp_path: Path) -> None:
    run = lerobot_ext("demos", "--root", tmp_path / "demos", "--task", "lfit")
    assert run.returncode != 0
    assert (
        "`task` is 'lfit'; the Koch environment has reach, lift, place, tour, choose, either, around."
        in run.stderr
    )
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "demos").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skill": "good"}, "`skill` is 'good'; choose one of expert, noisy, random, mixed."),
        ({"images": "gif"}, "`images` is 'gif'; choose one of none, video, image."),
        ({"image_size": 33}, "`image_size` is 33;"),
        ({"episodes": 0}, "`episodes` is 0; record at least 1."),
        ({"action_noise": -1.0}, "`action_noise` is -1.0;"),
        ({"region": Region(yaw_rad=3.0)}, "`region.yaw_rad` is 3.0;"),
    ],
)
def test_bad_option_is_named(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        DemoOptions("local/koch_lift", tmp_path / "demos", **options)  # type: ignore[arg-type]


def test_dataset_of_states(tmp_path: Path) -> None:
    root = tmp_path / "demos"
    report = record_demos(DemoOptions("local/koch_lift", root, episodes=3))
    assert report.successes == 3
    dataset = load(root)
    own = {k: tuple(v["shape"]) for k, v in dataset.features.items() if "." in k or k == "action"}
    assert own == STATE_FEATURES
    table = dataset.hf_dataset.with_format("numpy")
    assert len(table) == report.frames
    ends = np.cumsum([episode.frames for episode in report.episodes]) - 1
    done = np.zeros(report.frames, dtype=bool)
    done[ends] = True
    np.testing.assert_array_equal(np.ravel(table["next.done"]), done)
    np.testing.assert_array_equal(np.ravel(table["next.success"]), done)
    np.testing.assert_array_equal(np.ravel(table["next.reward"]), done.astype(np.float32))
    for name in ("observation.state", "action"):
        values = np.asarray(table[name])
        assert np.abs(values).max() <= 101


def test_dataset_of_what_a_real_arm_sees(tmp_path: Path) -> None:
    options = DemoOptions(
        "local/koch_lift",
        tmp_path / "demos",
        episodes=1,
        images="image",
        image_size=64,
        environment_state=False,
    )
    record_demos(options)
    item = load(options.root)[0]
    assert "observation.environment_state" not in item
    assert tuple(item["observation.images.top"].shape) == (3, 64, 64)


def test_recording_is_reproducible_and_can_be_gone_on_with(tmp_path: Path) -> None:
    whole, halves, other = tmp_path / "whole", tmp_path / "halves", tmp_path / "other"
    record_demos(DemoOptions("local/koch_lift", whole, episodes=4))
    record_demos(DemoOptions("local/koch_lift", halves, episodes=2))
    record_demos(DemoOptions("local/koch_lift", halves, episodes=4))
    record_demos(DemoOptions("local/koch_lift", other, episodes=4, seed=1))
    actions = {
        root: np.array(load(root).hf_dataset.with_format("numpy")["action"])
        for root in (whole, halves, other)
    }
    np.testing.assert_array_equal(actions[whole], actions[halves])
    assert not np.array_equal(actions[whole][:20], actions[other][:20])


def test_other_options_or_a_foreign_folder_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "demos"
    record_demos(DemoOptions("local/koch_lift", root, episodes=1))
    with pytest.raises(FileExistsError, match="was recorded with seed=0"):
        record_demos(DemoOptions("local/koch_lift", root, episodes=2, seed=5))
    provenance = root / "meta/lerobot_env_koch.json"
    provenance.write_text(provenance.read_text().replace('"closed": true', '"closed": false'))
    with pytest.raises(FileExistsError, match="was killed"):
        record_demos(DemoOptions("local/koch_lift", root, episodes=2))
    foreign = tmp_path / "photos"
    foreign.mkdir()
    with pytest.raises(FileExistsError, match="holds no demonstrations"):
        record_demos(DemoOptions("local/koch_lift", foreign))


def test_mixed_skills_keep_their_failures_and_are_labelled(tmp_path: Path) -> None:
    root = tmp_path / "demos"
    report = record_demos(DemoOptions("local/koch_reach", root, "reach", episodes=12, skill="mixed"))
    assert report.attempts == 12
    assert {episode.skill for episode in report.episodes} == {"expert", "noisy", "random"}
    assert 0 < report.successes < 12
    saved = json.loads((root / "meta/lerobot_env_koch.json").read_text())
    assert saved["settings"]["skill"] == "mixed"
    assert sum(episode["success"] for episode in saved["episodes"]) == report.successes


def test_skill_that_never_succeeds_ends_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lerobot_env_koch.demos.recorder.MAX_ATTEMPTS_PER_EPISODE", 3)
    options = DemoOptions("local/koch_lift", tmp_path / "demos", episodes=1, skill="noisy", noise=20.0)
    with pytest.raises(RuntimeError, match=r"0 of 3 attempts.*--keep-failures"):
        record_demos(options)


def test_recorded_actions_are_clean_of_the_executed_noise(tmp_path: Path) -> None:
    """The noise disturbs the arm, not the labels: labels stay smooth functions of the state."""
    quiet = DemoOptions("local/koch_lift", tmp_path / "quiet", episodes=2, action_noise=0.0)
    loud = DemoOptions("local/koch_lift", tmp_path / "loud", episodes=2, action_noise=1.0)
    leads = []
    for options in (quiet, loud):
        record_demos(options)
        table = load(options.root).hf_dataset.with_format("numpy")
        leads.append(
            np.abs(np.asarray(table["action"]) - np.asarray(table["observation.state"]))[:, :5].max()
        )
    assert leads[1] < leads[0] * 1.3
