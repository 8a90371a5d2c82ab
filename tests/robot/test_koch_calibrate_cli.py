# SPDX-License-Identifier: Apache-2.0
"""Bad calibration files and turned joints through the stock console scripts, run as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from lerobot_env_koch.bench.hand import SWEEP_S
from lerobot_env_koch.constants import JOINT_NAMES

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
START_S = 120  # LeRobot's CLIs take ten seconds and more to start on a busy machine


def environment(home: Path) -> dict[str, str]:
    drop = {"HF_LEROBOT_CALIBRATION", "PYTHONDONTWRITEBYTECODE"}
    kept = {key: value for key, value in os.environ.items() if key not in drop}
    return kept | {
        "HF_LEROBOT_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


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
    done = subprocess.run(
        [str(BIN / "lerobot-teleoperate"), *words(bench, "robot"), *words(bench, "teleop")],
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert done.returncode != 0
    assert "the calibration of koch_leader 'mine'" in done.stderr
    assert "mine.json is not a calibration file" in done.stderr
    assert not any(s.torque_enabled for arm in bench.arms.values() for s in arm.servos)


@pytest.mark.parametrize("role", ["robot", "teleop"])
def test_lerobot_calibrate_repairs_a_bad_file_and_turns_a_joint_round(start_bench, tmp_path, role):
    bench = start_bench()
    path = put_bad_files(tmp_path)[role == "teleop"]
    child = pexpect.spawn(
        str(BIN / "lerobot-calibrate"),
        words(bench, role, f"--{role}.drive_mode={{wrist_flex: 1}}"),
        env=environment(tmp_path),
        encoding="utf-8",
        timeout=START_S,
    )
    # The bad file is named, and not offered.
    asked = child.expect(["use provided calibration", "middle of its range of motion"])
    assert asked == 1, child.before
    assert ("gripper: its range" if role == "robot" else "is not a calibration file") in child.before
    child.sendline("")
    child.expect("Press ENTER to stop")
    child.expect(pexpect.TIMEOUT, timeout=SWEEP_S + 0.8)  # reads on, so that the child never blocks
    child.sendline("")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    found = json.loads(path.read_text())
    servos = bench.arms["follower" if role == "robot" else "leader"].servos
    inverted = {"wrist_flex", *(["elbow_flex"] if role == "teleop" else [])}
    assert {joint for joint, entry in found.items() if entry["drive_mode"]} == inverted
    assert {joint for joint, s in zip(JOINT_NAMES, servos, strict=True) if s.get("Drive_Mode")} == inverted
