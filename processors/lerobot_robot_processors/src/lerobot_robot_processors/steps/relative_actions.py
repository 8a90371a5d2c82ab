# SPDX-License-Identifier: Apache-2.0
"""Actions relative to where the arm is, and back: LeRobot's pair of steps, where that goes wrong made right.

LeRobot 0.6.1's `relative_actions_processor` / `absolute_actions_processor` (pi0, groot) are subclassed, so
its own wiring of the two after loading and its RTC engine treat these the same. What differs:

* A policy that plays a chunk from its queue (`select_action`, so `lerobot-eval` and sync rollouts) predicted
  it relative to the state at the chunk's first frame. LeRobot adds the newest state instead, which moves the
  arm twice; here the state is kept for `n_action_steps` frames.
* `observation.state` of several frames (B, S, D) counts with its last frame; LeRobot's broadcast fails.
* Joints to leave alone are names or indices and must exist; LeRobot ignores names if it has no
  `action_names`.
* A robot's named numbers and single samples go through too.

The normaliser sees relative actions then: give the dataset statistics of relative actions first, with
`lerobot-edit-dataset --operation.type recompute_stats --operation.relative_action true`.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lerobot.configs.types import PipelineFeatureType
from lerobot.processor import (
    AbsoluteActionsProcessorStep,
    ProcessorStepRegistry,
    RelativeActionsProcessorStep,
    TransitionKey,
)
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from lerobot_robot_processors.configured import Features, Transition, is_names, is_whole, require


@ProcessorStepRegistry.register("lerobot_ext_relative_actions")
@dataclass
class RelativeActionsStep(RelativeActionsProcessorStep):  # type: ignore[misc]
    """Subtract the state from the action.

    Of a tensor that is `observation.state`, of a robot's named number the observation of that name. Actions
    are (A,), (B, A) or (B, H, A); padded ones are treated like the others. Named numbers that the observation
    does not have stay absolute.

    Args:
        enabled (`bool`, *optional*, defaults to `True`): Off, actions pass; LeRobot's field.
        exclude_joints (`list[str]`, *optional*): Names of what stays absolute, or parts of names: `gripper`.
        action_names (`list[str]`, *optional*): The names of a tensor's numbers, for `exclude_joints`.
        exclude_indices (`list[int]`, *optional*): Places that stay absolute; -1 is the last.
        n_action_steps (`int`, *optional*, defaults to `1`): For how many frames a policy plays one chunk.

    Raises:
        ValueError: A joint to exclude does not exist; the state is narrower than the action.
        KeyError: There is an action and no `observation.state`.
    """

    enabled: bool = True
    exclude_indices: list[int] = field(default_factory=list)
    n_action_steps: int = 1
    _last_state: Tensor | None = field(default=None, init=False, repr=False)
    _reference: Tensor | None = field(default=None, init=False, repr=False)
    _age: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        require("n_action_steps", self.n_action_steps, is_whole(self.n_action_steps, 1), "1 or more")
        require("exclude_joints", self.exclude_joints, is_names(self.exclude_joints), "a list of names")
        whole = all(isinstance(each, int) and not isinstance(each, bool) for each in self.exclude_indices)
        require("exclude_indices", self.exclude_indices, whole, "a list of whole numbers")
        for name in self.exclude_joints if self.action_names is not None else ():
            there = any(name.lower() in str(known).lower() for known in self.action_names)
            require("exclude_joints", name, there, f"(part of) one of {', '.join(self.action_names)}")

    def __call__(self, transition: Transition) -> Transition:
        """The transition with relative actions; the state is remembered for the inverse."""
        action = transition.get(TransitionKey.ACTION)
        observation = transition.get(TransitionKey.OBSERVATION) or {}
        state = _last_frame(observation.get(OBS_STATE))
        if state is not None:
            self._remember(state, acting=action is None)
        if not self.enabled or action is None:
            return transition
        return {**transition, TransitionKey.ACTION: self.shifted(action, observation, state, -1.0)}

    def get_config(self) -> dict[str, Any]:
        """The fields, for the saved pipeline."""
        names = ("enabled", "exclude_joints", "action_names", "exclude_indices", "n_action_steps")
        return {name: copy.deepcopy(getattr(self, name)) for name in names}

    def transform_features(self, features: Features) -> Features:
        """Unchanged: the numbers have the same names and shapes.

        Raises:
            ValueError: An index to exclude is no place of the action.
        """
        shape = getattr(features.get(PipelineFeatureType.ACTION, {}).get(ACTION), "shape", None)
        if shape:
            self._build_mask(shape[-1])
        return features

    def reset(self) -> None:
        """Begin a new episode: the next state is the one that actions are relative to."""
        self._last_state = None
        self._reference = None
        self._age = 0

    def reference(self) -> Tensor | None:
        """The state at the frame that the policy's present chunk was predicted from."""
        return self._reference

    def shifted(self, action: Any, observation: Mapping[str, Any], state: Tensor | None, sign: float) -> Any:
        """`action` plus `sign` times the state, but where it stays absolute."""
        if isinstance(action, Mapping):
            return self._shifted_names(action, observation, sign)
        if state is None:
            raise KeyError(
                f"relative actions need `{OBS_STATE}`, and the observation has "
                f"{', '.join(observation) or 'nothing'}."
            )
        width = action.shape[-1]
        if state.shape[-1] < width:
            raise ValueError(
                f"`{OBS_STATE}` has {state.shape[-1]} numbers and the action {width}: the action's must be "
                "the "
                "state's first ones, in the same order."
            )
        mask = torch.tensor(self._build_mask(width), device=action.device)
        offset = state[..., :width].to(action.device, action.dtype)
        if offset.ndim < action.ndim and action.ndim - offset.ndim == 1 and offset.ndim > 1:
            offset = offset.unsqueeze(-2)
        return torch.where(mask, action + sign * offset, action)

    def _shifted_names(
        self, action: Mapping[str, Any], observation: Mapping[str, Any], sign: float
    ) -> dict[str, Any]:
        for name in self.exclude_joints:
            there = any(name.lower() in key.lower() for key in action)
            require("exclude_joints", name, there, f"(part of) one of {', '.join(action)}")
        if self.exclude_indices:
            require("exclude_indices", self.exclude_indices, False, "left out for named numbers; use names")
        if not any(key in observation for key in action):
            raise KeyError(
                f"relative actions need the robot's values beside the `action`: one of {', '.join(action)} "
                "in the "
                "observation. Use a pipeline that gets both, such as `robot_action`."
            )
        kept = {key for name in self.exclude_joints for key in action if name.lower() in key.lower()}
        return {
            key: value if key in kept or key not in observation else value + sign * observation[key]
            for key, value in action.items()
        }

    def _build_mask(self, action_dim: int) -> list[bool]:
        """Which numbers are relative; LeRobot's RTC engine asks as well."""
        if self.exclude_joints and self.action_names is None:
            raise ValueError(
                f"`exclude_joints` ({self.exclude_joints!r}) needs `action_names`: a tensor's numbers have "
                "no names. "
                "Give them, or `exclude_indices`."
            )
        mask: list[bool] = super()._build_mask(action_dim)
        for index in self.exclude_indices:
            inside = -action_dim <= index < action_dim
            require("exclude_indices", index, inside, f"a place of an action of {action_dim}")
            mask[index] = False
        return mask

    def _remember(self, state: Tensor, *, acting: bool) -> None:
        """Keep the newest state, and the chunk's first one; a batch to learn from is a chunk of its own."""
        self._last_state = state
        other = self._reference is None or self._reference.shape != state.shape
        if self._age == 0 or other or not acting:
            self._reference, self._age = state, 0
        self._age = (self._age + 1) % self.n_action_steps if acting else 0


@ProcessorStepRegistry.register("lerobot_ext_absolute_actions")
@dataclass
class AbsoluteActionsStep(AbsoluteActionsProcessorStep):  # type: ignore[misc]
    """Undo `lerobot_ext_relative_actions`, which LeRobot connects when it loads a checkpoint.

    A transition that has the state itself is brought back by that. Otherwise the pair's memory is used: of a
    whole chunk (B, H, A) the newest state, of single actions (B, A) the state at the chunk's first frame.

    Args:
        enabled (`bool`, *optional*, defaults to `True`): Off, actions pass.
        relative_step (`RelativeActionsStep`, *optional*): The other half; not saved.
        exclude_joints (`list[str]`, *optional*): As there, for a robot's pipeline, which has no other half.

    Raises:
        RuntimeError: There is no other half, or it has seen no state.
    """

    enabled: bool = True
    exclude_joints: list[str] = field(default_factory=list)

    def __call__(self, transition: Transition) -> Transition:
        """The transition with absolute actions."""
        action = transition.get(TransitionKey.ACTION)
        if not self.enabled or action is None:
            return transition
        observation = transition.get(TransitionKey.OBSERVATION) or {}
        if isinstance(action, Mapping):
            half = self.relative_step or RelativeActionsStep(exclude_joints=list(self.exclude_joints))
            absolute = half.shifted(action, observation, None, 1.0)
            return {**transition, TransitionKey.ACTION: absolute}
        half = self.relative_step
        if not isinstance(half, RelativeActionsStep):
            raise RuntimeError(
                "`lerobot_ext_absolute_actions` brings actions back by the state that "
                "`lerobot_ext_relative_actions` remembers, and is connected to none; put that step into the "
                "preprocessor, and set `relative_step` if you build the pipelines yourself."
            )
        state = _last_frame(observation.get(OBS_STATE))
        if state is None:
            state = half.get_cached_state() if action.ndim >= 3 else half.reference()
        if state is None:
            raise RuntimeError("no state was seen yet; run the preprocessor before the postprocessor.")
        return {**transition, TransitionKey.ACTION: half.shifted(action, observation, state, 1.0)}

    def get_config(self) -> dict[str, Any]:
        """The saved fields."""
        return {"enabled": self.enabled, "exclude_joints": list(self.exclude_joints)}


def _last_frame(state: Any) -> Tensor | None:
    """(D,) or (B, D) of a state that may have an axis of frames, (B, S, D)."""
    if not isinstance(state, Tensor):
        return None
    return state[:, -1] if state.ndim == 3 else state
