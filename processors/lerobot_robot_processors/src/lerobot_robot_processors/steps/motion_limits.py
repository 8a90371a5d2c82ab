# SPDX-License-Identifier: Apache-2.0
"""Keeps the commands to a robot within position, velocity, acceleration and jerk, whatever comes in."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lerobot.processor import ActionProcessorStep, ProcessorStepRegistry
from numpy.typing import NDArray

from ..configured import init_fields
from ..joint_values import read_joints
from ..motion.limiter import ArmLimiter, MotionLimits
from ..motion.present import present_joints
from ..motion.settings import PerJoint, require_choice
from ..motion.streams import not_finite, over_time, require_same_streams

FloatArray = NDArray[np.float64]


@ProcessorStepRegistry.register("lerobot_ext_motion_limits")
@dataclass
class MotionLimitsStep(ActionProcessorStep):
    """Change a command no more than needed for it, and every later one, to keep all bounds.

    Bounds hold between the commands themselves: of the positions sent, the first difference times `fps` is
    the velocity, the second times `fps`² the acceleration, the third times `fps`³ the jerk. A command that is
    allowed passes unchanged, and one that is not is approached as fast as the bounds allow without running
    past it; see `lerobot_robot_processors.motion.profile`. Between episodes (`reset()`) the step forgets
    where it was. The first command after that starts at rest, at the measured position (moved to the nearest
    end of `position`) or, without an observation, at the command itself.

    Takes a robot's dict, or tensors (D,), (B, D) for B arms, (B, T, D) for T frames in a row. Units are those
    of the action: degrees, or LeRobot's -100..100.

    Args:
        position (`dict[str, list[float]]`, *optional*): `[lowest, highest]` by joint.
        velocity (`PerJoint`, *optional*): Units per s: a number for all joints, or a dict by joint (the
            others are free).
        acceleration (`PerJoint`, *optional*): Units per s²; the same joints need a `velocity`.
        jerk (`PerJoint`, *optional*): Units per s³; the same joints need an `acceleration`.
        fps (`float`, *optional*, defaults to `30.0`): Frames per second of the control loop.
        invalid (`str`, *optional*, defaults to `"hold"`): What a NaN or infinite command does: `"hold"`
            brings that joint to a stop within the bounds, `"raise"` is an error.
        measure_time (`bool`, *optional*, defaults to `False`): Watch the clock too: a call that comes earlier
            than a frame's time after the ones before it repeats the last command, so that a loop faster than
            `fps` does not make the arm faster. A slower loop makes it slower.
        joint_names (`list[str]`, *optional*): Joints of a tensor's columns, for bounds by joint.

    Raises:
        ValueError: A setting is no positive number, a range is empty, or a bound lacks the one it needs; when
            called: a setting names a joint that is not there; or the command is not finite with
            `invalid="raise"`.
    """

    position: dict[str, list[float]] | None = None
    velocity: PerJoint = None
    acceleration: PerJoint = None
    jerk: PerJoint = None
    fps: float = 30.0
    invalid: str = "hold"
    measure_time: bool = False
    joint_names: list[str] | None = None
    _limits: MotionLimits = field(init=False, repr=False)
    _limiter: ArmLimiter | None = field(default=None, init=False, repr=False)
    _pace: "_Pace" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_choice("invalid", self.invalid, ("hold", "raise"))
        self._limits = MotionLimits(self.position, self.velocity, self.acceleration, self.jerk, self.fps)
        self._pace = _Pace(1.0 / self.fps)

    def action(self, action: Any) -> Any:
        """The command that may be sent."""
        joints = read_joints(action, self.joint_names)
        if self.invalid == "raise":
            _require_finite(joints.names, joints.array)

        def frame(targets: FloatArray) -> FloatArray:
            limiter = self._started(joints.names, targets)
            return limiter.advance(targets)

        if self.measure_time and self._limiter is not None and not self._pace.due():
            last = self._limiter.commands()
            return joints.replaced(over_time(joints.array, lambda _: last))
        return joints.replaced(over_time(joints.array, frame))

    def _started(self, names: tuple[str, ...], targets: FloatArray) -> ArmLimiter:
        """The limiter, begun where the arms are if this is an episode's first frame."""
        if self._limiter is None:
            present = present_joints(self.transition, names, len(targets))
            start = targets if present is None else present
            if not np.isfinite(start).all():
                raise ValueError(
                    f"The first command of an episode is not finite ({targets.tolist()}) and the "
                    f"observation does "
                    "not say where the arm is: there is no position to hold."
                )
            self._limiter = ArmLimiter(self._limits, names, start)
            self._pace.begin()
        require_same_streams(self._limiter.streams, len(targets))
        return self._limiter

    def reset(self) -> None:
        """Begin a new episode: at rest, wherever the arm is then."""
        self._limiter = None

    def get_config(self) -> dict[str, Any]:
        """All settings."""
        return init_fields(self)

    def transform_features(self, features: Any) -> Any:
        """Nothing changes."""
        return features


def _require_finite(names: tuple[str, ...], array: FloatArray) -> None:
    which = not_finite(names, array)
    if which:
        raise ValueError(
            f'The command for {which} is not finite: {array.tolist()}. With `invalid` "hold" those joints '
            "would stop instead."
        )


class _Pace:
    """Whether a frame's time has gone by; late frames do not let later ones come early.

    Args:
        period_s (`float`): A frame's time.
        clock (`Callable`): Seconds, ever rising.
    """

    TOLERANCE = 0.25
    """How early, in frames, a call may come and still count: control loops jitter."""

    def __init__(self, period_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._period_s = period_s
        self.clock = clock
        self._next_s = 0.0

    def begin(self) -> None:
        """Count from now."""
        self._next_s = self.clock() + self._period_s

    def due(self) -> bool:
        """Whether another frame may go out now; if so, it is counted."""
        now = self.clock()
        if now < self._next_s - self.TOLERANCE * self._period_s:
            return False
        self._next_s = max(self._next_s, now - self.TOLERANCE * self._period_s) + self._period_s
        return True
