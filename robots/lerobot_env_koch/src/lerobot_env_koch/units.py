# SPDX-License-Identifier: Apache-2.0
"""Conversions between radians, servo ticks and LeRobot units, by the canonical calibration.

The canonical calibration is what stock `lerobot-calibrate` finds on this arm when it is held at the middle of
every joint range at the first ENTER and each joint is swept over its whole range before the second: tick 2047
is the middle of the range, `shoulder_pan` and `wrist_roll` use the full turn (±100 = ±180°), the other joints
map their mechanical range to -100..100 and the gripper to 0 (closed) .. 100 (open).

All functions take and return arrays whose last axis holds the six joints in `JOINT_NAMES` order.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lerobot_env_koch.constants import (
    CENTRE_TICK,
    FULL_TURN_JOINTS,
    JOINT_NAMES,
    JOINT_RANGES_RAD,
    TICKS_PER_TURN,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RAD_PER_TICK: Final = math.tau / TICKS_PER_TURN

LOWER_RAD: Final = np.array([JOINT_RANGES_RAD[name][0] for name in JOINT_NAMES])
UPPER_RAD: Final = np.array([JOINT_RANGES_RAD[name][1] for name in JOINT_NAMES])
MID_RAD: Final = (LOWER_RAD + UPPER_RAD) / 2

# The joint angle that maps to the lowest and highest LeRobot unit.
_UNIT_LOW_RAD: Final = np.array(
    [-math.pi if n in FULL_TURN_JOINTS else JOINT_RANGES_RAD[n][0] for n in JOINT_NAMES]
)
_UNIT_HIGH_RAD: Final = np.array(
    [math.pi if n in FULL_TURN_JOINTS else JOINT_RANGES_RAD[n][1] for n in JOINT_NAMES]
)

UNIT_LOW: Final = np.array([0.0 if name == "gripper" else -100.0 for name in JOINT_NAMES])
UNIT_HIGH: Final = np.full(len(JOINT_NAMES), 100.0)

_UNITS_PER_RAD: Final = (UNIT_HIGH - UNIT_LOW) / (_UNIT_HIGH_RAD - _UNIT_LOW_RAD)


def _joints(values: ArrayLike, what: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape[-1:] != (len(JOINT_NAMES),):
        raise ValueError(
            f"`{what}` has shape {array.shape}; its last axis must hold the {len(JOINT_NAMES)} joints "
            f"{', '.join(JOINT_NAMES)}."
        )
    return array


def rad_to_units(q_rad: ArrayLike) -> FloatArray:
    """LeRobot units of joint angles.

    Args:
        q_rad (`ArrayLike`): (..., 6) joint angles in rad.

    Returns:
        `FloatArray`: (..., 6) units; not clipped.

    Raises:
        ValueError: If the last axis does not hold six joints.
    """
    units: FloatArray = (_joints(q_rad, "q_rad") - _UNIT_LOW_RAD) * _UNITS_PER_RAD + UNIT_LOW
    return units


def units_to_rad(units: ArrayLike) -> FloatArray:
    """Joint angles of LeRobot units; the inverse of `rad_to_units`.

    Args:
        units (`ArrayLike`): (..., 6) LeRobot units.

    Returns:
        `FloatArray`: (..., 6) angles in rad; not clipped to the mechanical stops.

    Raises:
        ValueError: If the last axis does not hold six joints.
    """
    q_rad: FloatArray = (_joints(units, "units") - UNIT_LOW) / _UNITS_PER_RAD + _UNIT_LOW_RAD
    return q_rad


def rad_to_ticks(q_rad: ArrayLike) -> IntArray:
    """Servo ticks (4096 a turn, 2047 at the middle of the joint's range) nearest to joint angles.

    Args:
        q_rad (`ArrayLike`): (..., 6) joint angles in rad.

    Returns:
        `IntArray`: (..., 6) ticks; may lie outside 0..4095, as a multi-turn servo's position may.

    Raises:
        ValueError: If the last axis does not hold six joints.
    """
    ticks = np.rint((_joints(q_rad, "q_rad") - MID_RAD) / RAD_PER_TICK) + CENTRE_TICK
    whole: IntArray = ticks.astype(np.int64)
    return whole


def ticks_to_rad(ticks: ArrayLike) -> FloatArray:
    """Joint angles of servo ticks; the inverse of `rad_to_ticks` up to half a tick (0.0008 rad).

    Args:
        ticks (`ArrayLike`): (..., 6) ticks.

    Returns:
        `FloatArray`: (..., 6) angles in rad.

    Raises:
        ValueError: If the last axis does not hold six joints.
    """
    q_rad: FloatArray = (_joints(ticks, "ticks") - CENTRE_TICK) * RAD_PER_TICK + MID_RAD
    return q_rad


def quantize(q_rad: ArrayLike) -> FloatArray:
    """Joint angles as a servo would report them: rounded to its 4096 steps a turn."""
    return ticks_to_rad(rad_to_ticks(q_rad))
