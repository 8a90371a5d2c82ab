# SPDX-License-Identifier: Apache-2.0
"""The command lines of the handbook our first users work with reach our devices as they stand.

The arms are on Windows ports, so that every command ends at the port, with an error that says so: arguments,
plugins and dataset are all past by then.
"""

import importlib
import sys
from pathlib import Path

import pytest

FOLLOWER = ["--robot.type=koch_follower", "--robot.port=COM4", "--robot.id=my_follower"]
LEADER = ["--teleop.type=koch_leader", "--teleop.port=COM7", "--teleop.id=my_leader"]
CAMERAS = (
    "--robot.cameras={left: {type: opencv, index_or_path: 1, width: 640, height: 480, fps: 30, "
    "color_mode: rgb, rotation: 0}, above: {type: opencv, index_or_path: 0, width: 640, height: 480, "
    "fps: 30, color_mode: rgb, rotation: 0}}"
)
RECORD = [
    *FOLLOWER,
    CAMERAS,
    *LEADER,
    "--dataset.repo_id=my/block_in_cup",
    "--dataset.num_episodes=100",
    "--dataset.episode_time_s=15",
    "--dataset.reset_time_s=10",
    "--dataset.single_task=Pick up the rectangular block and put it into the cup.",
    "--dataset.push_to_hub=false",
    "--play_sounds=false",
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Calls a console script's `main` with a command line."""
    import lerobot.robots.robot as robot
    import lerobot.teleoperators.teleoperator as teleoperator

    for module in (robot, teleoperator):
        monkeypatch.setattr(module, "HF_LEROBOT_CALIBRATION", tmp_path / "calibration")

    def call(script: str, words: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", [script, *words])
        importlib.import_module(f"lerobot.scripts.{script}").main()

    return call


@pytest.mark.parametrize(
    ("script", "words", "port"),
    [
        ("lerobot_calibrate", LEADER, "COM7"),
        ("lerobot_calibrate", FOLLOWER, "COM4"),
        ("lerobot_setup_motors", FOLLOWER, "COM4"),
        ("lerobot_teleoperate", [*FOLLOWER, *LEADER], "COM7"),
        ("lerobot_record", RECORD, "COM7"),
    ],
)
def test_the_commands_reach_our_devices(run, tmp_path, monkeypatch, script, words, port):
    monkeypatch.setattr("builtins.input", lambda _="": "")
    if script == "lerobot_record":
        words = [*words, f"--dataset.root={tmp_path / 'dataset'}"]
    with pytest.raises(ConnectionError, match=rf"Port '{port}' does not exist. Ports on this machine: .*"):
        run(script, words)
