# SPDX-License-Identifier: Apache-2.0
"""Closed-form kinematics of the arm: the tip's pose from joint angles and back.

The arm is planar apart from pan and roll, so the inverse is a two-link triangle. Angles follow `koch.xml`;
the *pitch* is how far the hand points below the horizontal (π/2 = straight down) and equals lift + elbow +
wrist flex.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lerobot_env_koch.units import LOWER_RAD, UPPER_RAD
from lerobot_ext.arms.koch import ELBOW_TO_WRIST_M, LIFT_AXIS_HEIGHT_M, LIFT_TO_ELBOW_M, WRIST_TO_TIP_M

FloatArray = NDArray[np.float64]

UPPER_ARM_M: Final = math.hypot(*LIFT_TO_ELBOW_M)
FOREARM_M: Final = math.hypot(*ELBOW_TO_WRIST_M)
# Directions of the two links at joint angle zero, as angles above the horizontal.
_UPPER_ARM_ANGLE: Final = math.atan2(LIFT_TO_ELBOW_M[1], LIFT_TO_ELBOW_M[0])
_FOREARM_ANGLE: Final = math.atan2(ELBOW_TO_WRIST_M[1], ELBOW_TO_WRIST_M[0])


def forward(q_rad: FloatArray) -> tuple[FloatArray, float]:
    """Tip position and pitch of joint angles.

    Args:
        q_rad (`FloatArray`): (6,) joint angles.

    Returns:
        `tuple[FloatArray, float]`: (3,) tip in the base frame in m, and the pitch in rad.
    """
    pan, lift, elbow, wrist = (float(v) for v in q_rad[:4])
    upper = _UPPER_ARM_ANGLE - lift
    fore = _FOREARM_ANGLE - lift - elbow
    pitch = lift + elbow + wrist
    reach = UPPER_ARM_M * math.cos(upper) + FOREARM_M * math.cos(fore) + WRIST_TO_TIP_M * math.cos(pitch)
    height = (
        LIFT_AXIS_HEIGHT_M
        + UPPER_ARM_M * math.sin(upper)
        + FOREARM_M * math.sin(fore)
        - WRIST_TO_TIP_M * math.sin(pitch)
    )
    return np.array([-math.sin(pan) * reach, math.cos(pan) * reach, height]), pitch


def _inverse_at(reach: float, height: float, pitch: float) -> tuple[float, float, float] | None:
    """Lift, elbow and wrist flex that put the tip at (reach, height) with this pitch, or None."""
    wrist_r = reach - WRIST_TO_TIP_M * math.cos(pitch)
    wrist_z = height + WRIST_TO_TIP_M * math.sin(pitch) - LIFT_AXIS_HEIGHT_M
    distance = math.hypot(wrist_r, wrist_z)
    if not abs(UPPER_ARM_M - FOREARM_M) < distance < UPPER_ARM_M + FOREARM_M:
        return None
    # Elbow above the line from shoulder to wrist: the upper arm is raised from it by the triangle's shoulder
    # angle.
    cosine = (UPPER_ARM_M**2 + distance**2 - FOREARM_M**2) / (2 * UPPER_ARM_M * distance)
    upper = math.atan2(wrist_z, wrist_r) + math.acos(cosine)
    fore = math.atan2(
        wrist_z - UPPER_ARM_M * math.sin(upper),
        wrist_r - UPPER_ARM_M * math.cos(upper),
    )
    lift = _UPPER_ARM_ANGLE - upper
    elbow = _FOREARM_ANGLE - fore - lift
    wrist = pitch - lift - elbow
    for angle, index in ((lift, 1), (elbow, 2), (wrist, 3)):
        if not LOWER_RAD[index] <= angle <= UPPER_RAD[index]:
            return None
    return lift, elbow, wrist


def inverse(tip_m: FloatArray, pitch_rad: float = math.pi / 2) -> tuple[FloatArray, float]:
    """Joint angles that bring the tip to a point, as near to the wished pitch as the arm can.

    Args:
        tip_m (`FloatArray`): (3,) where the tip should be, base frame, m.
        pitch_rad (`float`, *optional*, defaults to `π/2`): Wished pitch of the hand.

    Returns:
        `tuple[FloatArray, float]`: (4,) joint angles and the pitch they have.

    Raises:
        ValueError: If no pitch reaches the point.
    """
    x, y, z = (float(v) for v in tip_m)
    pan = math.atan2(-x, y)
    reach = math.hypot(x, y)
    # Steps of 1 degree away from the wish, the flatter side first: a flatter hand reaches further.
    for step in range(120):
        for sign in (-1.0, 1.0):
            pitch = pitch_rad + sign * math.radians(step)
            solution = _inverse_at(reach, z, pitch)
            if solution is not None:
                return np.array([pan, *solution]), pitch
    raise ValueError(
        f"`tip_m` {np.round(np.asarray(tip_m), 3).tolist()} is out of reach; move it nearer to the base."
    )
