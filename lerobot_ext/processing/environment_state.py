# SPDX-License-Identifier: Apache-2.0
"""Splits the environment state off a robot's observation: one policy for simulation and for an arm.

A simulator gives the object poses as `observation.environment_state`. An arm with an object tracker has no
such key: the stock command lines put every scalar of a robot into `observation.state`, the joints first, then
what the tracker adds. This step makes the second look like the first.

Importing this module registers the step; importing `lerobot_ext` does not. LeRobot loads saved processors
from JSON without importing the policy's `processor_*` module, so a policy that uses the step must import this
module from its plugin's `__init__`. That costs 4 ms on top of `lerobot.processor`, which every command line
that runs a policy has loaded by then.
"""

from dataclasses import dataclass
from typing import Any

from lerobot.configs.types import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.processor import ObservationProcessorStep, ProcessorStepRegistry
from lerobot.utils.constants import OBS_ENV_STATE, OBS_STATE

REGISTRY_NAME = "lerobot_ext_split_environment_state"

Features = dict[PipelineFeatureType, dict[str, PolicyFeature]]


@ProcessorStepRegistry.register(REGISTRY_NAME)
@dataclass
class SplitEnvironmentStateStep(ObservationProcessorStep):
    """Split the tail of `observation.state` into `observation.environment_state` where that key is missing.

    An observation that has `observation.environment_state`, or no `observation.state`, passes unchanged.
    Leading dimensions are free: (D,), (B, D) and (B, T, D) all split along the last one. Values are views,
    not copies.

    Args:
        state_dim (`int`, *optional*, defaults to `0`): Width of the policy's `observation.state`.
        environment_dim (`int`, *optional*, defaults to `0`): Width of the policy's
            `observation.environment_state`; at 0 the policy takes none and everything passes.

    Raises:
        ValueError: A width is negative or no integer; or the state of an observation without environment
        state is
            not `state_dim + environment_dim` wide.
    """

    state_dim: int = 0
    environment_dim: int = 0

    def __post_init__(self) -> None:
        for field in ("state_dim", "environment_dim"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"`{field}` ({value!r}) must be a whole number, 0 or more.")

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """`observation` with the environment state under its own key.

        Args:
            observation (`dict`): `observation.state` is a tensor or array of shape (..., D).

        Returns:
            The observation with `observation.state` (..., state_dim) and `observation.environment_state`
            (..., environment_dim), or the one given where there is nothing to split.
        """
        state = observation.get(OBS_STATE)
        if self.environment_dim == 0 or OBS_ENV_STATE in observation or state is None:
            return observation
        self._check_width(state.shape[-1])
        split = dict(observation)
        split[OBS_STATE] = state[..., : self.state_dim]
        split[OBS_ENV_STATE] = state[..., self.state_dim :]
        return split

    def get_config(self) -> dict[str, Any]:
        """The two widths, for the saved pipeline."""
        return {"state_dim": self.state_dim, "environment_dim": self.environment_dim}

    def transform_features(self, features: Features) -> Features:
        """The features after the split; unchanged where `observation()` would pass its input on."""
        observation = features.get(PipelineFeatureType.OBSERVATION, {})
        state = observation.get(OBS_STATE)
        if self.environment_dim == 0 or OBS_ENV_STATE in observation or state is None:
            return features
        self._check_width(state.shape[-1])
        leading = tuple(state.shape[:-1])
        return {
            **features,
            PipelineFeatureType.OBSERVATION: {
                **observation,
                OBS_STATE: PolicyFeature(type=FeatureType.STATE, shape=(*leading, self.state_dim)),
                OBS_ENV_STATE: PolicyFeature(type=FeatureType.ENV, shape=(*leading, self.environment_dim)),
            },
        }

    def _check_width(self, width: int) -> None:
        """Refuse a state that is not joints and environment state side by side."""
        expected = self.state_dim + self.environment_dim
        if width == expected:
            return
        hint = (
            "choose observations of the environment that hold it (`--env.obs=state` of koch), or give the "
            "robot the tracker it was trained with (`--robot.tracker…`), which adds the last "
            f"{self.environment_dim} values"
            if width == self.state_dim
            else "use the robot and tracker the policy was trained with, or a policy trained for this robot"
        )
        raise ValueError(
            f"The policy takes `{OBS_STATE}` ({self.state_dim} values) and `{OBS_ENV_STATE}` "
            f"({self.environment_dim} values). The observation has no `{OBS_ENV_STATE}`, and its "
            f"`{OBS_STATE}` is "
            f"{width} wide instead of {expected}: {hint}."
        )
