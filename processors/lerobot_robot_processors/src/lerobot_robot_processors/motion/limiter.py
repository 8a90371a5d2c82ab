# SPDX-License-Identifier: Apache-2.0
"""Limits of all joints of one or several arms: per second as people say them, per frame as they are kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .profile import FrameBounds, JointProfile
from .settings import PerJoint, for_joint, named_joints, require_known, require_per_joint, require_positive

FloatArray = NDArray[np.float64]

LONGEST_STOP_S: Final = 30.0


@dataclass(frozen=True)
class MotionLimits:
    """Bounds in the robot's own units (degrees, or LeRobot's -100..100) and seconds.

    Args:
        position (`dict[str, list[float]]`, *optional*): Lowest and highest position by joint.
        velocity (`PerJoint`): Units per s.
        acceleration (`PerJoint`): Units per s²; needs `velocity` for the same joints.
        jerk (`PerJoint`): Units per s³; needs `acceleration` for the same joints.
        fps (`float`): Frames per second.

    Raises:
        ValueError: A bound is no positive number, a range is empty, or a bound lacks the one it needs.
    """

    position: dict[str, list[float]] | None
    velocity: PerJoint
    acceleration: PerJoint
    jerk: PerJoint
    fps: float

    def __post_init__(self) -> None:
        require_positive("fps", self.fps)
        for field in ("velocity", "acceleration", "jerk"):
            require_per_joint(field, getattr(self, field))
        for name, pair in (self.position or {}).items():
            _require_range(name, pair)
        for name in sorted(named_joints(self.velocity, self.acceleration, self.jerk)) or ["all joints"]:
            self._require_order(name)

    def _require_order(self, name: str) -> None:
        """An acceleration can only be kept where the speed is bounded: else a stop may take for ever."""
        velocity, acceleration, jerk = (
            for_joint(value, name) for value in (self.velocity, self.acceleration, self.jerk)
        )
        for field, value, other, needed in (
            ("acceleration", acceleration, "velocity", velocity),
            ("jerk", jerk, "acceleration", acceleration),
        ):
            if math.isfinite(value) and not math.isfinite(needed):
                raise ValueError(
                    f"`{field}` ({value:g} for {name}) needs a `{other}` for the same joint too."
                )
        stop = (velocity / acceleration if math.isfinite(acceleration) else 0.0) + (
            acceleration / jerk if math.isfinite(jerk) else 0.0
        )
        if stop > LONGEST_STOP_S:
            raise ValueError(
                f"With these bounds {name} takes {stop:.3g} s to stop; raise `acceleration` "
                f"({acceleration:g}) or "
                f"`jerk` ({jerk:g})."
            )

    def named(self) -> set[str]:
        """Joints that the settings name."""
        return named_joints(self.position, self.velocity, self.acceleration, self.jerk)

    def frame_bounds(self, name: str) -> FrameBounds:
        """What a joint keeps per frame."""
        low, high = (self.position or {}).get(name, (-math.inf, math.inf))
        return FrameBounds(
            float(low),
            float(high),
            for_joint(self.velocity, name) / self.fps,
            for_joint(self.acceleration, name) / self.fps**2,
            for_joint(self.jerk, name) / self.fps**3,
        )


def _require_range(name: str, pair: Any) -> None:
    numbers = list(pair) if isinstance(pair, (list, tuple)) else []
    if len(numbers) != 2 or not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
        raise ValueError(f"`position[{name!r}]` is {pair!r}; give [lowest, highest].")
    if not numbers[0] < numbers[1]:
        raise ValueError(f"`position[{name!r}]` is {pair!r}; the lowest must be below the highest.")


class ArmLimiter:
    """The commands of several arms (streams), each joint on its own.

    Args:
        limits (`MotionLimits`): What to keep.
        names (`Sequence[str]`): The joints, one a column.
        start (`FloatArray`): (B, D) where the joints rest.

    Raises:
        ValueError: `limits` names a joint that is not among `names`.
    """

    def __init__(self, limits: MotionLimits, names: Sequence[str], start: FloatArray) -> None:
        require_known("The limits", limits.named(), names)
        bounds = [limits.frame_bounds(name) for name in names]
        self._profiles = [
            [JointProfile(bound, float(position)) for bound, position in zip(bounds, row, strict=True)]
            for row in start
        ]

    @property
    def streams(self) -> int:
        """B."""
        return len(self._profiles)

    def advance(self, targets: FloatArray) -> FloatArray:
        """The commands of the next frame, (B, D), for wished positions (B, D)."""
        return np.array(
            [
                [profile.advance(float(target)) for profile, target in zip(arm, row, strict=True)]
                for arm, row in zip(self._profiles, targets, strict=True)
            ]
        )

    def commands(self) -> FloatArray:
        """The commands of the last frame again, (B, D)."""
        return np.array([[profile.position for profile in arm] for arm in self._profiles])
