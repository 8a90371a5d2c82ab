# SPDX-License-Identifier: Apache-2.0
"""An arm as LeRobot's robots report it: motor values instead of radians, and a gripper beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from lerobot_ext.arms.koch import FULL_TURN_JOINTS, JOINT_NAMES, JOINT_RANGES_RAD

from ..motion.settings import require_choice
from .koch import KochArm
from .model_arm import ModelArm
from .pose import Pose

KOCH: Final = "koch"


class Arm(Protocol):
    """Kinematics in radians; `KochArm` and `ModelArm`."""

    joint_names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def forward(self, q: Sequence[float]) -> Pose:
        """The end effector's pose."""

    def inverse(self, pose: Pose, start: Sequence[float], *, keep_branch: bool = True) -> tuple[float, ...]:
        """The joint angles nearest to a pose, on the way on from `start`."""


@dataclass(kw_only=True)
class ArmSettings:
    """Which arm a step computes with, and what its motor values mean; base of the steps that need one.

    Args:
        model (`str`): `"koch"`, or a URDF or MJCF file (needs MuJoCo: extra `models`).
        frame (`str`): For a file: the body or site that is the end effector.
        arm_joints (`list[str]`): For a file: the joints without the gripper, from the base on; motors have
            the same names.
        gripper (`str`): The motor that passes as it is; empty for none.
        units (`str`): `"normalized"`: LeRobot's -100..100 between `ranges_deg`. `"degrees"`: 0 is the middle
            of `ranges_deg`, or the model's zero for a joint that has none.
        ranges_deg (`dict[str, list[float]]`): Joint angles in degrees, as the model counts them, at the two
            ends of a motor's calibrated range. The Koch's default to what a calibration held at mid-range
            gives; a motor that turns the other way has its ends exchanged.
    """

    model: str = KOCH
    frame: str = ""
    arm_joints: list[str] = field(default_factory=list)
    gripper: str = "gripper"
    units: str = "normalized"
    ranges_deg: dict[str, list[float]] = field(default_factory=dict)

    def make_motors(self) -> "MotorArm":
        """The arm in motor values.

        Raises:
            ValueError: A setting is wrong.
            ImportError: A model file needs MuJoCo.
            FileNotFoundError: The model file is not there.
        """
        require_choice("units", self.units, ("normalized", "degrees"))
        arm: Arm
        if self.model == KOCH:
            if self.frame or self.arm_joints:
                raise ValueError("`frame` and `arm_joints` belong to a `model` file; the Koch has its own.")
            arm = KochArm()
        else:
            if not self.frame or not self.arm_joints:
                raise ValueError(f"With `model` {self.model!r} give `frame` and `arm_joints` too.")
            arm = ModelArm(Path(self.model).expanduser(), self.frame, self.arm_joints)
        return MotorArm(arm, self.units, self._ranges_rad(arm), self.gripper)

    def _ranges_rad(self, arm: Arm) -> dict[str, tuple[float, float]]:
        ranges = dict(_koch_ranges()) if self.model == KOCH else {}
        for name, pair in self.ranges_deg.items():
            if name not in arm.joint_names:
                raise ValueError(
                    f"`ranges_deg` names {name!r}; the arm's joints are {', '.join(arm.joint_names)}."
                )
            if len(pair) != 2 or not all(math.isfinite(end) for end in pair) or pair[0] == pair[1]:
                raise ValueError(f"`ranges_deg[{name!r}]` is {pair!r}; give the angles at both ends.")
            ranges[name] = (math.radians(pair[0]), math.radians(pair[1]))
        absent = [name for name in arm.joint_names if name not in ranges]
        if absent and self.units == "normalized":
            raise ValueError(
                f"`ranges_deg` lacks {', '.join(absent)}: which angles are -100 and 100? With motors in "
                'degrees set `units` to "degrees".'
            )
        return ranges


def _koch_ranges() -> dict[str, tuple[float, float]]:
    """What LeRobot's calibration finds when the arm is held at mid-range at the first ENTER."""
    return {
        name: (-math.pi, math.pi) if name in FULL_TURN_JOINTS else JOINT_RANGES_RAD[name]
        for name in JOINT_NAMES[:5]
    }


class MotorArm:
    """An arm whose joints are motor values.

    Args:
        arm (`Arm`): Its kinematics.
        units (`str`): `"normalized"` or `"degrees"`.
        ranges_rad (`dict`): Angles at both ends of a motor's range.
        gripper (`str`): The motor beside the arm; empty for none.
    """

    def __init__(
        self, arm: Arm, units: str, ranges_rad: dict[str, tuple[float, float]], gripper: str
    ) -> None:
        self.arm = arm
        self.gripper = gripper
        self.joint_names = arm.joint_names
        self.motor_names = (*arm.joint_names, gripper) if gripper else arm.joint_names
        self._zero: list[float] = []
        self._per_unit: list[float] = []
        for name in arm.joint_names:
            low, high = ranges_rad.get(name, (0.0, 0.0))
            self._zero.append((low + high) / 2.0)
            flipped = math.copysign(1.0, high - low)
            degrees = units == "degrees"
            self._per_unit.append(math.radians(1.0) * flipped if degrees else (high - low) / 200.0)

    def to_rad(self, values: Sequence[float]) -> list[float]:
        """Joint angles of the arm's motor values."""
        return [z + k * v for z, k, v in zip(self._zero, self._per_unit, values, strict=True)]

    def to_motors(self, q: Sequence[float]) -> list[float]:
        """Motor values of the arm's joint angles."""
        return [(a - z) / k for z, k, a in zip(self._zero, self._per_unit, q, strict=True)]

    def forward(self, values: Sequence[float]) -> Pose:
        """The end effector's pose of the arm's motor values."""
        return self.arm.forward(self.to_rad(values))
