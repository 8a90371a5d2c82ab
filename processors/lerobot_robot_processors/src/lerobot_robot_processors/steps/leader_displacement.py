# SPDX-License-Identifier: Apache-2.0
"""A leader arm that moves the follower by how it is moved, wherever both start."""

import math
from dataclasses import dataclass, field
from typing import Any

from lerobot.configs.types import PipelineFeatureType
from lerobot.processor import ProcessorStepRegistry, RobotActionProcessorStep, TransitionKey

from ..configured import init_fields
from ..joint_values import SUFFIX, read_joints
from ..motion.settings import PerJoint, for_joint, named_joints, require_known, require_per_joint

Features = dict[PipelineFeatureType, dict[str, Any]]


@ProcessorStepRegistry.register("lerobot_ext_leader_displacement")
@dataclass
class LeaderDisplacementStep(RobotActionProcessorStep):
    """Follower = where it was at the start + scale × (leader - where that was at the start).

    So the arms need not be brought together before an episode, and a small motion of the leader can be a
    large one of the follower, or a slow and fine one. `reset()` starts again from where both are.

    Args:
        scale (`PerJoint`, *optional*, defaults to `1.0`): Units of the follower per unit of the leader: a
            number, or by joint (others 1).
        absolute (`list[str]`, *optional*): Joints that follow the leader's own value; a gripper, by default.

    Raises:
        ValueError: `scale` is not positive; when called: there is no observation, a joint is not there, or a
            value is not finite.
        KeyError: The observation lacks a motor.
    """

    scale: PerJoint = 1.0
    absolute: list[str] = field(default_factory=lambda: ["gripper"])
    _started: dict[str, tuple[float, float]] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.scale is None:
            raise ValueError("`scale` is None; give a number, or numbers by joint.")
        require_per_joint("scale", self.scale)

    def action(self, action: Any) -> Any:
        """The follower's command."""
        leader = read_joints(action)
        require_known("`scale` and `absolute`", {*named_joints(self.scale), *self.absolute}, leader.names)
        values = dict(zip(leader.names, leader.array.tolist(), strict=True))
        if not all(map(math.isfinite, values.values())):
            raise ValueError(f"The leader's values are not all finite: {values}.")
        if self._started is None:
            observation = self.transition.get(TransitionKey.OBSERVATION)
            if observation is None:
                raise ValueError(
                    "LeaderDisplacementStep needs the robot's observation: the follower moves on from where "
                    "it is. Put the step into the pipeline `robot_action`."
                )
            follower = read_joints(observation, leader.names).array.tolist()
            self._started = {
                name: (there, values[name]) for name, there in zip(leader.names, follower, strict=True)
            }
        moved = {f"{name}{SUFFIX}": self._moved(name, value) for name, value in values.items()}
        return {**action, **moved}

    def _moved(self, name: str, value: float) -> float:
        if name in self.absolute:
            return value
        if self._started is None or name not in self._started:
            raise ValueError(f"`{name}{SUFFIX}` was not there when the episode began; call `reset()`.")
        follower, leader = self._started[name]
        return follower + for_joint(self.scale, name, free=1.0) * (value - leader)

    def reset(self) -> None:
        """Start from where both arms are then."""
        self._started = None

    def get_config(self) -> dict[str, Any]:
        """All settings."""
        return init_fields(self)

    def transform_features(self, features: Features) -> Features:
        """Nothing changes."""
        return features
