# SPDX-License-Identifier: Apache-2.0
"""The Koch v1.1 follower in numbers: joints, stops and dimensions.

The one source of them: the simulated arm (`lerobot_env_koch`, whose MJCF a test compares with these numbers)
and the kinematics of `lerobot_robot_processors` both take them from here. Frame: origin on the table below
the pan axis, +y forward, +x right, +z up. With all joints at zero the upper arm stands up and the rest of the
arm points forward. Lengths in m, angles in rad.
"""

import math
from typing import Final

JOINT_NAMES: Final = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
"""Joints in bus order: servo ids 1 to 6."""

FULL_TURN_JOINTS: Final = ("shoulder_pan", "wrist_roll")
"""Joints whose calibration range is the whole turn (stock calibration does not sweep them)."""

JOINT_RANGES_RAD: Final[dict[str, tuple[float, float]]] = {
    "shoulder_pan": (-2.2, 2.2),
    "shoulder_lift": (-0.6, 1.57),
    "elbow_flex": (-1.57, 1.45),
    "wrist_flex": (-2.0, 2.0),
    "wrist_roll": (-math.pi, math.pi),
    "gripper": (0.0, 1.6),
}
"""Stops. Positive turns left (pan), tips forward and down (lift, elbow, wrist), rolls right, opens the
gripper."""

LIFT_AXIS_HEIGHT_M: Final = 0.0409 + 0.0154
"""Table to shoulder lift axis, on the pan axis."""

LIFT_TO_ELBOW_M: Final = (0.0148, 0.1083)
"""Forward and up, at joint angles zero."""

ELBOW_TO_WRIST_M: Final = (0.1005, 0.0027)
"""Forward and up, at joint angles zero."""

WRIST_TO_ROLL_M: Final = 0.045
"""Wrist flex axis to wrist roll servo, forward."""

ROLL_TO_TIP_M: Final = 0.060
"""Wrist roll servo to the *tip*: on the roll axis, 10 mm before the finger tips, where a cube's centre
goes."""

WRIST_TO_TIP_M: Final = WRIST_TO_ROLL_M + ROLL_TO_TIP_M
"""Wrist flex axis to the tip, forward."""
