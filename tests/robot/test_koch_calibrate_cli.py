# SPDX-License-Identifier: Apache-2.0
"""Bad calibration files and turned joints through the stock console scripts, run as a user runs them."""

import json
from pathlib import Path

import pytest
from lerobot_env_koch.constants import JOINT_NAMES
from stock_cli import calibrate, run

pytestmark = pytest.mark.slow


def words(bench, role: str, *more: str) -> list[str]:
    arm, type_ = {"robot": ("follower", "koch_follower"), "teleop": ("leader", "koch_leader")}[role]
    port = bench.ready()["ports"][arm]
    fields = {"type": type_, "port": port, "id": "mine"}
    return [*(f"--{role}.{name}={value}" for name, value in fields.items()), *more]


def put_bad_files(home: Path) -> list[Path]:
    """A gripper that was not moved, and a file that ends too early."""
    entries = {
        joint: {"id": i + 1, "drive_mode": 0, "homing_offset": 0, "range_min": 1000, "range_max": 3000}
        for i, joint in enumerate(JOINT_NAMES)
    }
    entries["gripper"]["range_max"] = 1010
    follower = home / "calibration" / "robots" / "koch_follower" / "mine.json"
    leader = home / "calibration" / "teleoperators" / "koch_leader" / "mine.json"
    for path, text in ((follower, json.dumps(entries)), (leader, json.dumps(entries)[:100])):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return [follower, leader]


def test_without_a_terminal_a_bad_file_ends_the_session_and_moves_nothing(start_bench, tmp_path):
    bench = start_bench()
    put_bad_files(tmp_path)
    done = run(tmp_path, "lerobot-teleoperate", *words(bench, "robot"), *words(bench, "teleop"))
    assert done.returncode != 0
    assert "the calibration of koch_leader 'mine'" in done.stderr
    assert "mine.json is not a calibration file" in done.stderr
    assert not any(s.torque_enabled for arm in bench.arms.values() for s in arm.servos)


@pytest.mark.parametrize("role", ["robot", "teleop"])
def test_lerobot_calibrate_repairs_a_bad_file_and_turns_a_joint_round(start_bench, tmp_path, role):
    bench = start_bench()
    path = put_bad_files(tmp_path)[role == "teleop"]
    said = calibrate(tmp_path, words(bench, role, f"--{role}.drive_mode={{wrist_flex: 1}}"))
    # The bad file is named, and not offered.
    assert ("gripper: its range" if role == "robot" else "is not a calibration file") in said
    found = json.loads(path.read_text())
    servos = bench.arms["follower" if role == "robot" else "leader"].servos
    inverted = {"wrist_flex", *(["elbow_flex"] if role == "teleop" else [])}
    assert {joint for joint, entry in found.items() if entry["drive_mode"]} == inverted
    assert {joint for joint, s in zip(JOINT_NAMES, servos, strict=True) if s.get("Drive_Mode")} == inverted
