# SPDX-License-Identifier: Apache-2.0
"""Keeps the end effector inside a workspace, whether commands are poses or joints."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lerobot.processor import ActionProcessorStep, ProcessorStepRegistry
from numpy.typing import NDArray

from ..joint_values import like, read_joints, to_array
from ..kinematics.pose import Pose
from ..motion.present import present_joints
from ..motion.settings import require_choice
from ..motion.streams import over_time, require_same_streams
from ..motion.workspace import Workspace
from .end_effector import ArmStep, require_keys

FloatArray = NDArray[np.float64]

logger = logging.getLogger(__name__)


@ProcessorStepRegistry.register("lerobot_ext_workspace_bounds")
@dataclass(kw_only=True)
class WorkspaceBoundsStep(ArmStep, ActionProcessorStep):
    """Clamp, hold or refuse commands that bring the end effector out of a box, a cylinder or below a floor.

    It is the end effector's point that is kept inside (the Koch's: 10 mm before the finger tips, so that a
    floor of 0.01 keeps the tips off the table when the hand points down), not the rest of the arm. Takes a
    robot's dict or tensors (D,), (B, D), (B, T, D), whose columns are those of the pose or of the motors.

    Args:
        space (`str`, *optional*, defaults to `"pose"`): What an action is: `"pose"` (`ee.x`, …), or
            `"joints"` (`<motor>.pos`), of which the pose is computed.
        box (`dict[str, list[float | None]]`, *optional*): `[lowest, highest]` of `x`, `y`, `z` in m; None is
            free.
        radius (`list[float]`, *optional*): `[smallest, largest]` distance from an upright axis: the arm's
            reach, and what is too near to its base.
        axis (`list[float]`, *optional*): x and y of that axis; the arm's own, (0, 0), by default.
        floor (`float`, *optional*): Lowest z.
        outside (`str`, *optional*, defaults to `"clamp"`): `"clamp"` goes to a near point inside: poses slide
            along the bound, joints by inverse kinematics, or stop on their way where that fails. `"hold"`
            repeats the last command inside, `"raise"` is an error. A command that is not finite is outside.
        rotation (`str`, *optional*, defaults to `"rotvec"`): How poses are written: `"rotvec"` or `"6d"`.
        suffix (`str`, *optional*): Put after each name of a pose.
        model (`str`, *optional*, defaults to `"koch"`): `"koch"`, or a URDF or MJCF file with `frame` and
            `arm_joints`.
        frame (`str`, *optional*): Body or site of a model file.
        arm_joints (`list[str]`, *optional*): Joints of a model file, from the base on.
        gripper (`str`, *optional*, defaults to `"gripper"`): Motor that passes as it is; empty for none.
        units (`str`, *optional*, defaults to `"normalized"`): `"normalized"` (-100..100) or `"degrees"`.
        ranges_deg (`dict`, *optional*): Joint angles at both ends of a motor's calibrated range.

    Raises:
        ValueError: A setting is wrong; when called: the first command of an episode is outside with
            `outside="hold"`, or one is with `"raise"`.
        KeyError: A robot's dict lacks a part of the pose or a motor.
    """

    space: str = "pose"
    box: dict[str, list[float | None]] = field(default_factory=dict)
    radius: list[float] | None = None
    axis: list[float] = field(default_factory=lambda: [0.0, 0.0])
    floor: float | None = None
    outside: str = "clamp"
    _workspace: Workspace = field(init=False, repr=False)
    _last: list[list[float] | None] | None = field(default=None, init=False, repr=False)
    _out: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("space", self.space, ("pose", "joints"))
        require_choice("outside", self.outside, ("clamp", "hold", "raise"))
        self._workspace = Workspace(self.box, self.radius, self.axis, self.floor)

    def action(self, action: Any) -> Any:
        """The command, inside."""
        if self.space == "joints":
            joints = read_joints(action, self._motors.motor_names)
            return joints.replaced(over_time(joints.array, self._frame))
        names = self._keys.names
        if isinstance(action, Mapping):
            require_keys(action, names, "the action")
            row = self._frame(np.array([[float(action[name]) for name in names]]))[0].tolist()
            return {**action, **dict(zip(names, row, strict=True))}
        array = to_array(action)
        if array.shape[-1:] != (len(names),):
            raise ValueError(
                f"The action has shape {array.shape}; its last axis must hold {', '.join(names)}, or set "
                '`space` to "joints".'
            )
        return like(action, over_time(array, self._frame))

    def _frame(self, values: FloatArray) -> FloatArray:
        if self._last is None:
            self._last = self._measured(len(values))
        require_same_streams(len(self._last), len(values))
        self._last = [self._inside(row, last) for row, last in zip(values.tolist(), self._last, strict=True)]
        return np.array(self._last)

    def _measured(self, streams: int) -> list[list[float] | None]:
        """Where the arms are at an episode's start, as far as the observation tells and they are inside."""
        present = present_joints(self.transition, self._motors.motor_names, streams)
        if present is None:
            return [None] * streams
        rows = [row if self.space == "joints" else self.pose_numbers(row) for row in present.tolist()]
        return [row if self._workspace.contains(self._point(row)) else None for row in rows]

    def _point(self, row: Sequence[float]) -> Sequence[float]:
        if self.space == "pose":
            return row[:3]
        return self._motors.forward(row[: len(self._motors.joint_names)]).position

    def _inside(self, row: list[float], last: list[float] | None) -> list[float]:
        finite = all(map(math.isfinite, row))
        point = self._point(row) if finite else (math.nan,) * 3
        if finite and self._workspace.contains(point):
            self._out = False
            return row
        self._report(point)
        if self.outside == "clamp" and finite:
            clamped = self._clamped(row, point, last)
            if clamped is not None:
                return clamped
        if last is None:
            raise ValueError(
                f"The first command of an episode is outside of the workspace ({_named(point)}), and there "
                "is none inside to hold; bring the arm inside first."
            )
        return last

    def _clamped(
        self, row: list[float], point: Sequence[float], last: list[float] | None
    ) -> list[float] | None:
        """A command near to one outside, or None where there is none to be found."""
        near = self._workspace.nearest(point)
        if near is None:
            return None
        if self.space == "pose":
            return [*near, *row[3:]]
        n = len(self._motors.joint_names)
        wanted = self._motors.to_rad(row[:n])
        q = self._motors.arm.inverse(Pose(near, self._motors.arm.forward(wanted).rotation), wanted)
        moved = [*self._motors.to_motors(q), *row[n:]]
        # The arm may come near to that point only; then as far as it goes on the straight way there.
        if self._workspace.contains(self._point(moved)):
            return moved
        return None if last is None else self._on_the_way(last, row)

    def _on_the_way(self, inside: list[float], outside: list[float]) -> list[float]:
        kept, best = 0.0, inside
        step = 0.5
        for _ in range(20):
            tried = [a + (kept + step) * (b - a) for a, b in zip(inside, outside, strict=True)]
            if self._workspace.contains(self._point(tried)):
                kept, best = kept + step, tried
            step *= 0.5
        return best

    def _report(self, point: Sequence[float]) -> None:
        what = f"A command brings the end effector out of its workspace, to {_named(point)}"
        if self.outside == "raise":
            raise ValueError(f"{what}; keep to `box`, `radius` and `floor`.")
        if not self._out:
            logger.warning("%s; it is %s.", what, "clamped" if self.outside == "clamp" else "held")
        self._out = True

    def reset(self) -> None:
        """Begin a new episode."""
        self._last = None
        self._out = False

    def transform_features(self, features: Any) -> Any:
        """Nothing changes."""
        return features


def _named(point: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in point) + ") m"
