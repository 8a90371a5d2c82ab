# SPDX-License-Identifier: Apache-2.0
"""The stock console scripts against `lerobot-ext sim`, as a user runs them: all of them subprocesses."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lerobot_env_koch.bench.command import camera_argument
from lerobot_env_koch.bench.control import BenchClient
from lerobot_env_koch.constants import JOINT_NAMES
from step_files import step, write
from stock_cli import PATIENCE_MS, calibrate, run, sim

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lerobot_home")


@pytest.fixture(scope="module")
def ready(home: Path) -> Iterator[dict]:
    """A bench of its own process, and what it says when it is ready."""
    with sim(home, "--cameras", "top") as started:
        yield started
    assert not (home / "sim.json").exists()
    assert not (home / "sim" / "follower").is_symlink()
    assert "bench ended" in (home / "sim.log").read_text()


def follower_words(ready: dict) -> list[str]:
    return arm_words("robot", "koch_follower", ready["ports"]["follower"], "sim_follower")


def leader_words(ready: dict) -> list[str]:
    return arm_words("teleop", "koch_leader", ready["ports"]["leader"], "sim_leader")


def arm_words(role: str, type_: str, port: str, id_: str) -> list[str]:
    fields = {"type": type_, "port": port, "id": id_, "give_up_ms": PATIENCE_MS}
    return [f"--{role}.{name}={value}" for name, value in fields.items()]


@pytest.fixture(scope="module")
def calibrated(home: Path, ready: dict) -> dict:
    """The bench after stock `lerobot-calibrate` of both arms."""
    calibrate(home, follower_words(ready))
    calibrate(home, leader_words(ready))
    return ready


def test_help_shows_our_fields(home):
    text = run(home, "lerobot-calibrate", "--help").stdout
    assert "--robot.num_read_retries" in text
    assert "--teleop.num_write_retries" in text
    words = ["--robot.type=koch_follower", "--teleop.type=koch_leader", "--help"]
    text = run(home, "lerobot-record", *words).stdout
    for field in ("--robot.read_budget_ms", "--robot.on_bus_loss", "--robot.tracker", "--teleop.drive_mode"):
        assert field in text, field


def test_calibration_files_hold_the_canonical_ranges(home, calibrated):
    folder = home / "calibration"
    follower = json.loads((folder / "robots" / "koch_follower" / "sim_follower.json").read_text())
    leader = json.loads((folder / "teleoperators" / "koch_leader" / "sim_leader.json").read_text())
    for name in JOINT_NAMES:
        for side in ("range_min", "range_max"):
            assert abs(follower[name][side] - leader[name][side]) <= 2, (name, side)
    assert leader["elbow_flex"]["drive_mode"] == 1


def test_teleoperating_lifts_the_cube(home, calibrated):
    with BenchClient(calibrated["control_socket"]) as bench:
        before = bench.request("status")["lifts"]
        words = [*follower_words(calibrated), *leader_words(calibrated), "--fps=30", "--teleop_time_s=10"]
        done = run(home, "lerobot-teleoperate", *words)
        after = bench.request("status")
    assert done.returncode == 0, done.stderr[-2000:]
    assert after["lifts"] > before, after
    assert "needed a retry" in done.stdout + done.stderr


def test_recording_with_a_camera_and_the_tracker(home, calibrated):
    root = home / "dataset"
    words = [
        *follower_words(calibrated),
        *leader_words(calibrated),
        f"--robot.cameras={camera_argument(calibrated)}",
        f"--robot.tracker.address={calibrated['tracker']['address']}",
        "--dataset.repo_id=me/koch_sim",
        f"--dataset.root={root}",
        "--dataset.single_task=Lift the red cube.",
        "--dataset.num_episodes=1",
        "--dataset.episode_time_s=5",
        "--dataset.reset_time_s=0",
        "--dataset.push_to_hub=false",
        "--play_sounds=false",
    ]
    done = run(home, "lerobot-record", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    # The folder may carry the date that stock appends to a repo id.
    dataset = LeRobotDataset("me/koch_sim", root=root, video_backend="pyav")
    motors = [f"{name}.pos" for name in JOINT_NAMES]
    tracked = [f"{name}.pos" for name in calibrated["tracker"]["names"]]
    assert dataset.meta.robot_type == "koch_follower"
    assert dataset.features["observation.state"]["names"] == motors + tracked
    assert dataset.features["action"]["names"] == motors
    assert dataset.features["observation.images.top"]["shape"] == (96, 96, 3)
    assert dataset.num_frames > 100
    rows = dataset.hf_dataset.with_format("numpy")
    state, action = np.stack(rows["observation.state"]), np.stack(rows["action"])
    # The follower is where the leader was a tenth of a second before.
    assert np.abs(state[3:, :6] - action[:-3]).mean() < 6
    assert np.ptp(action[:, 0]) > 0.5


def test_recording_with_steps_in_both_arms(home, calibrated, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))
    steps = write(
        home / "steps.json",
        teleop_action=[step("ToTurns")],
        robot_action=[step("FromTurns")],
        robot_observation=[step("HalvePictures")],
    )
    root = home / "turns"
    words = [
        *follower_words(calibrated),
        *leader_words(calibrated),
        f"--robot.pipeline={steps}",
        f"--teleop.pipeline={steps}",
        f"--robot.cameras={camera_argument(calibrated)}",
        "--dataset.repo_id=me/koch_turns",
        f"--dataset.root={root}",
        "--dataset.single_task=Lift the red cube.",
        "--dataset.num_episodes=1",
        "--dataset.episode_time_s=4",
        "--dataset.reset_time_s=0",
        "--dataset.push_to_hub=false",
        "--play_sounds=false",
    ]
    done = run(home, "lerobot-record", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("me/koch_turns", root=root, video_backend="pyav")
    assert dataset.features["action"]["names"] == [f"{name}.turns.pos" for name in JOINT_NAMES]
    assert dataset.features["observation.state"]["names"] == [f"{name}.pos" for name in JOINT_NAMES]
    assert dataset.features["observation.images.top"]["shape"] == (48, 48, 3)
    rows = dataset.hf_dataset.with_format("numpy")
    state, action = np.stack(rows["observation.state"]), np.stack(rows["action"])
    # The motors got joints again: the follower is where the leader was a tenth of a second before.
    assert np.abs(state[3:] - 360 * action[:-3]).mean() < 6
    assert np.ptp(action[:, 0]) > 0.5 / 360
    # Another file's actions would be lost on the motors; the robot says so instead.
    refused = run(
        home,
        "lerobot-teleoperate",
        *follower_words(calibrated),
        *leader_words(calibrated),
        f"--robot.pipeline={steps}",
        "--teleop_time_s=3",
    )
    assert refused.returncode != 0
    assert "a leader needs the same file as `--teleop.pipeline`" in refused.stderr


def test_a_wrong_port_ends_in_one_clear_line(home, ready):
    wrong = ready["ports"]["follower"] + "x"
    done = run(
        home, "lerobot-calibrate", "--robot.type=koch_follower", f"--robot.port={wrong}", "--robot.id=x"
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ConnectionError: Port ")
    assert ready["ports"]["follower"] in last
