# SPDX-License-Identifier: Apache-2.0
"""Catches a command that is too far from the arm or from the last command: a policy's or a leader's jump."""

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lerobot.processor import ActionProcessorStep, ProcessorStepRegistry
from numpy.typing import NDArray

from ..configured import init_fields
from ..joint_values import SUFFIX, read_joints
from ..motion.present import present_joints
from ..motion.settings import (
    PerJoint,
    for_joint,
    named_joints,
    require_choice,
    require_known,
    require_per_joint,
)
from ..motion.streams import over_time, require_same_streams

FloatArray = NDArray[np.float64]

logger = logging.getLogger(__name__)


@ProcessorStepRegistry.register("lerobot_ext_jump_guard")
@dataclass
class JumpGuardStep(ActionProcessorStep):
    """Hold, shorten or refuse a command that jumps.

    The limiter (`lerobot_ext_motion_limits`) turns a jump into a fast but bounded motion; this step is for
    those that should not be followed at all: a leader that starts in another pose, a lost packet, a policy
    out of its depth. Takes a robot's dict, or tensors (D,), (B, D) and (B, T, D). The first jump of each run
    of them is logged.

    Args:
        max_jump (`PerJoint`): Largest distance in the action's units: a number for all joints, or by joint
            (others are free).
        reference (`str`, *optional*, defaults to `"last"`): Distance from the last command let through
            (`"last"`; at the first of an episode from the measured position, if the observation has it), or
            always from the measured position (`"present"`).
        on_jump (`str`, *optional*, defaults to `"clamp"`): `"clamp"` moves each joint by `max_jump` at most,
            `"hold"` repeats the reference for all joints of that arm until a command comes near again,
            `"raise"` is an error. A command that is not finite is a jump; clamped, its joints stay where they
            are.
        joint_names (`list[str]`, *optional*): Joints of a tensor's columns.

    Raises:
        ValueError: A setting is wrong; when called: a named joint is not there, the observation lacks the
            joints with `reference="present"`, the first command is not finite and nothing is known of the
            arm; or a jump with `on_jump="raise"`.
    """

    max_jump: PerJoint
    reference: str = "last"
    on_jump: str = "clamp"
    joint_names: list[str] | None = None
    _last: FloatArray | None = field(default=None, init=False, repr=False)
    _jumping: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        require_choice("reference", self.reference, ("last", "present"))
        require_choice("on_jump", self.on_jump, ("clamp", "hold", "raise"))
        if self.max_jump is None:
            raise ValueError("`max_jump` is None; give the largest distance, a number or a dict by joint.")
        require_per_joint("max_jump", self.max_jump)

    def action(self, action: Any) -> Any:
        """The command that may be sent."""
        joints = read_joints(action, self.joint_names)
        require_known("`max_jump`", named_joints(self.max_jump), joints.names)
        largest = np.array([for_joint(self.max_jump, name) for name in joints.names])

        def frame(values: FloatArray) -> FloatArray:
            reference = self._reference(joints.names, values)
            self._last = self._guarded(joints.names, values, reference, largest)
            return self._last

        return joints.replaced(over_time(joints.array, frame))

    def _reference(self, names: tuple[str, ...], values: FloatArray) -> FloatArray:
        if self.reference == "last" and self._last is not None:
            require_same_streams(len(self._last), len(values))
            return self._last
        present = present_joints(self.transition, names, len(values))
        if present is not None:
            return present
        if self.reference == "present":
            raise ValueError(
                'The jump guard\'s `reference` is "present", and the observation does not hold '
                + ", ".join(f"`{name}{SUFFIX}`" for name in names)
                + '; use `reference="last"`, or put the step where the joints are measured.'
            )
        if not np.isfinite(values).all():
            raise ValueError(f"The first command of an episode is not finite: {values.tolist()}.")
        return values

    def _guarded(
        self, names: tuple[str, ...], values: FloatArray, reference: FloatArray, largest: FloatArray
    ) -> FloatArray:
        distance = values - reference
        # Written so that NaN counts as a jump.
        jumps = ~(np.abs(distance) <= largest) | ~np.isfinite(values)
        if not jumps.any():
            self._jumping = False
            return values
        self._report(names, values, reference, jumps)
        if self.on_jump == "hold":
            return np.where(jumps.any(axis=1, keepdims=True), reference, values)
        step = np.where(np.isfinite(values), np.clip(distance, -largest, largest), 0.0)
        return np.where(jumps, reference + step, values)

    def _report(
        self, names: tuple[str, ...], values: FloatArray, reference: FloatArray, jumps: NDArray[np.bool_]
    ) -> None:
        arm, joint = (int(i) for i in np.argwhere(jumps)[0])
        limit = for_joint(self.max_jump, names[joint])
        now, was = values[arm, joint], reference[arm, joint]
        what = f"The command for `{names[joint]}` jumps from {was:.4g} to {now:.4g}; `max_jump` is {limit:g}."
        if self.on_jump == "raise":
            raise ValueError(f"{what} Bring leader and follower together, or raise `max_jump`.")
        if not self._jumping:
            logger.warning("%s It is %s.", what, "held" if self.on_jump == "hold" else "shortened")
        self._jumping = True

    def reset(self) -> None:
        """Begin a new episode."""
        self._last = None
        self._jumping = False

    def get_config(self) -> dict[str, Any]:
        """All settings."""
        return init_fields(self)

    def transform_features(self, features: Any) -> Any:
        """Nothing changes."""
        return features
