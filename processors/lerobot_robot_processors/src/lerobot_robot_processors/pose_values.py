# SPDX-License-Identifier: Apache-2.0
"""End-effector poses of either side: a robot's named numbers, or columns of a tensor.

Names are LeRobot's: `ee.x`, `ee.y`, `ee.z` in m, `ee.wx`, `ee.wy`, `ee.wz` the rotation vector in rad, and
`ee.gripper_pos` in the gripper's own unit. With `rotation="6d"` the orientation is the first two columns of
the rotation matrix, `ee.r11`, `ee.r21`, `ee.r31`, `ee.r12`, `ee.r22`, `ee.r32`: continuous everywhere, where
a rotation vector jumps from one end of its axis to the other at half a turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .kinematics.pose import Pose, matrix_from_columns, matrix_from_rotvec, rotvec_from_matrix
from .motion.settings import require_choice

_POSITION = ("x", "y", "z")
_ROTATIONS = {
    "rotvec": ("wx", "wy", "wz"),
    "6d": ("r11", "r21", "r31", "r12", "r22", "r32"),
}


@dataclass(kw_only=True)
class PoseSettings:
    """How a pose is written; base of the steps that read or write one.

    Args:
        rotation (`str`): `"rotvec"` or `"6d"`.
        suffix (`str`): Put after each name. `lerobot-rollout` passes only names that end in `.pos` or `.vel`
            between a robot and a policy, so a robot that speaks of poses itself (`--robot.pipeline`) needs
            `".pos"`.
    """

    rotation: str = "rotvec"
    suffix: str = ""

    def make_keys(self, *, gripper: bool) -> "PoseKeys":
        """The names.

        Raises:
            ValueError: `rotation` is no known one.
        """
        require_choice("rotation", self.rotation, tuple(_ROTATIONS))
        return PoseKeys(self.rotation, self.suffix, gripper)


@dataclass(frozen=True)
class PoseKeys:
    """Names of a pose's numbers, in the order of their columns.

    Args:
        rotation (`str`): `"rotvec"` or `"6d"`.
        suffix (`str`): Put after each name.
        gripper (`bool`): Whether a gripper comes last.
    """

    rotation: str
    suffix: str
    gripper: bool
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        last = ("gripper" if self.suffix else "gripper_pos",) if self.gripper else ()
        parts = (*_POSITION, *_ROTATIONS[self.rotation], *last)
        object.__setattr__(self, "names", tuple(f"ee.{part}{self.suffix}" for part in parts))

    @property
    def position(self) -> tuple[str, ...]:
        """Names of the position alone."""
        return self.names[:3]

    def to_numbers(self, pose: Pose, gripper: float | None) -> list[float]:
        """A pose in columns."""
        m = pose.rotation
        turned = rotvec_from_matrix(m) if self.rotation == "rotvec" else (m[0], m[3], m[6], m[1], m[4], m[7])
        return [*pose.position, *turned, *([] if gripper is None else [gripper])]

    def to_pose(self, numbers: Sequence[float]) -> tuple[Pose, float | None]:
        """The pose of columns, and the gripper if there is one.

        Raises:
            ValueError: The six numbers of an orientation span no plane.
        """
        position = (numbers[0], numbers[1], numbers[2])
        gripper = numbers[-1] if self.gripper else None
        if self.rotation == "rotvec":
            return Pose(position, matrix_from_rotvec((numbers[3], numbers[4], numbers[5]))), gripper
        first, second = (numbers[3], numbers[4], numbers[5]), (numbers[6], numbers[7], numbers[8])
        return Pose(position, matrix_from_columns(first, second)), gripper
