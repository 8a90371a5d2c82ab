# SPDX-License-Identifier: Apache-2.0
"""The numbers that define a Koch v1.1 follower: joints, ranges, servos, and the names the datasets use.

Everything that turns simulated radians into what a real arm reports is derived from this file, and `koch.xml`
holds the same joint ranges (a test compares the two). Importing it costs nothing: no MuJoCo, no LeRobot.
"""

import math
from dataclasses import dataclass
from typing import Final

from lerobot_ext.arms.koch import FULL_TURN_JOINTS as FULL_TURN_JOINTS
from lerobot_ext.arms.koch import JOINT_NAMES as JOINT_NAMES
from lerobot_ext.arms.koch import JOINT_RANGES_RAD as JOINT_RANGES_RAD

MOTOR_KEYS: Final = tuple(f"{name}.pos" for name in JOINT_NAMES)
"""What the stock `koch_follower` calls its observations and actions."""

GRIPPER_HOLD_RAD: Final = 0.466
"""Gripper angle at which the pads are parallel and `CUBE_SIZE_M` apart, where a held cube keeps them."""

ENVIRONMENT_STATE_NAMES: Final = ("cube_x", "cube_y", "cube_z", "cube_yaw", "goal_x", "goal_y", "goal_z")
"""`observation.environment_state` of every task: metres and radians in the frame of the robot's base."""

TASKS: Final = ("reach", "lift", "place", "tour", "choose", "either", "around")
TASK_DESCRIPTIONS: Final[dict[str, str]] = {
    "reach": "Move the gripper to the green goal.",
    "lift": "Lift the red cube.",
    "place": "Put the red cube into the bin.",
    "tour": "Go left, to the middle, right, back to the middle and left again.",
    # Of `choose` each episode has its own, see `KochWorld.instruction`.
    "choose": "Move the gripper to the named side of the green goal.",
    "either": "Move the gripper to one side of the green goal.",
    "around": "Move the gripper beside or before the green goal, not to the goal itself.",
}

CAMERAS: Final = ("top", "wrist")
DEPTH_CAMERAS: Final = tuple(f"{camera}_depth" for camera in CAMERAS)
"""Their depth maps, named as the stock `koch_follower` names those of a RealSense."""
FPS: Final = 30

CUBE_SIZE_M: Final = 0.024
LIFT_HEIGHT_M: Final = 0.04
REACH_TOLERANCE_M: Final = 0.015
HOLD_STEPS: Final = 5
"""Success must last this many frames at `FPS`."""

TICKS_PER_TURN: Final = 4096
CENTRE_TICK: Final = 2047
"""Where stock homing (`int((4096 - 1) / 2)`) puts the pose held at the first ENTER: mid-range."""


@dataclass(frozen=True)
class Servo:
    """One Dynamixel as its data sheet describes it.

    Args:
        id (`int`): Bus id.
        model (`str`): LeRobot's model name.
        model_number (`int`): What the servo answers to a PING.
        stall_torque_nm (`float`): At the follower's supply voltage (12 V for XL430, 5 V for XL330).
        stall_current_a (`float`): Current at stall, same voltage.
        no_load_speed_rad_s (`float`): Speed at no load, same voltage.
    """

    id: int
    model: str
    model_number: int
    stall_torque_nm: float
    stall_current_a: float
    no_load_speed_rad_s: float


def _xl430(servo_id: int) -> Servo:
    return Servo(servo_id, "xl430-w250", 1060, 1.5, 1.4, 61 * math.tau / 60)


def _xl330_m288(servo_id: int) -> Servo:
    return Servo(servo_id, "xl330-m288", 1200, 0.52, 1.47, 103 * math.tau / 60)


def _xl330_m077(servo_id: int) -> Servo:
    return Servo(servo_id, "xl330-m077", 1190, 0.215, 1.47, 383 * math.tau / 60)


FOLLOWER_SERVOS: Final[dict[str, Servo]] = {
    "shoulder_pan": _xl430(1),
    "shoulder_lift": _xl430(2),
    "elbow_flex": _xl330_m288(3),
    "wrist_flex": _xl330_m288(4),
    "wrist_roll": _xl330_m288(5),
    "gripper": _xl330_m288(6),
}
LEADER_SERVOS: Final[dict[str, Servo]] = {name: _xl330_m077(i + 1) for i, name in enumerate(JOINT_NAMES)}
