# SPDX-License-Identifier: Apache-2.0
"""Gives an arm the canonical calibration, in its servos and as the file LeRobot would have written.

The canonical calibration is described in `lerobot_env_koch.units`; it is what stock `lerobot-calibrate` finds
on the bench. With it a stock CLI connects without a prompt.
"""

import json
from pathlib import Path
from typing import Final

from lerobot_env_koch.bench.arm import Arm
from lerobot_env_koch.constants import CENTRE_TICK, FULL_TURN_JOINTS, JOINT_NAMES, TICKS_PER_TURN
from lerobot_env_koch.units import LOWER_RAD, MID_RAD, UPPER_RAD, rad_to_ticks

FILES: Final = {
    "follower": Path("robots/koch_follower/sim_follower.json"),
    "leader": Path("teleoperators/koch_leader/sim_leader.json"),
}
"""Where LeRobot looks below its calibration folder, with the ids that the bench's commands use."""

INVERTED: Final = {"follower": (), "leader": ("elbow_flex",)}
"""Joints whose drive mode stock calibration inverts."""


def calibrate(arm: Arm, *, full_turns: bool = False) -> dict[str, dict[str, int]]:
    """Write the canonical calibration into the servos' permanent memory.

    Args:
        arm (`Arm`): The arm, with its torque off.
        full_turns (`bool`, *optional*, defaults to `False`): Give every joint the range 0..4095 instead of
            its own.

    Returns:
        `dict[str, dict[str, int]]`: What LeRobot's calibration file holds, by joint.
    """
    low, high = rad_to_ticks(LOWER_RAD), rad_to_ticks(UPPER_RAD)
    content = {}
    for i, (joint, servo) in enumerate(zip(JOINT_NAMES, arm.servos, strict=True)):
        whole = full_turns or joint in FULL_TURN_JOINTS
        drive_mode = int(joint in INVERTED[arm.name])
        servo.set("Drive_Mode", drive_mode)
        servo.set("Homing_Offset", 0)
        servo.set("Homing_Offset", CENTRE_TICK - servo.to_present(arm.shaft_ticks(i, float(MID_RAD[i]))))
        servo.set("Min_Position_Limit", 0 if whole else int(low[i]))
        servo.set("Max_Position_Limit", TICKS_PER_TURN - 1 if whole else int(high[i]))
        content[joint] = {
            "id": servo.id,
            "drive_mode": drive_mode,
            "homing_offset": servo.get("Homing_Offset"),
            "range_min": servo.get("Min_Position_Limit"),
            "range_max": servo.get("Max_Position_Limit"),
        }
    return content


def default_calibration_dir() -> Path:
    """LeRobot's calibration folder: `$HF_LEROBOT_CALIBRATION`, or the one below its cache."""
    from lerobot.utils.constants import HF_LEROBOT_CALIBRATION

    return Path(HF_LEROBOT_CALIBRATION)


def write_file(directory: Path, arm: Arm, content: dict[str, dict[str, int]]) -> Path:
    """Write LeRobot's calibration file of an arm below its calibration folder; returns the path.

    Raises:
        OSError: The file cannot be written.
    """
    path = directory / FILES[arm.name]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=4), encoding="utf-8")
    part.replace(path)
    return path
