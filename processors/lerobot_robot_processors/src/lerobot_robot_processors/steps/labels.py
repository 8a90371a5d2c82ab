# SPDX-License-Identifier: Apache-2.0
"""Rewards, ends and successes by a rule, where a dataset or a robot has none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lerobot.processor import ProcessorStepRegistry, TransitionKey
from lerobot.utils.constants import ACTION
from torch import Tensor

from lerobot_robot_processors.configured import (
    ConfiguredStep,
    Features,
    Transition,
    is_number,
    is_whole,
    require,
)

RULES = ("above", "below", "near", "end")
SUCCESS = "next.success"


@ProcessorStepRegistry.register("lerobot_ext_labels")
@dataclass
class LabelsStep(ConfiguredStep):
    """Label a transition with reward, done and `next.success`.

    | rule    | success is                                                            |
    |---------|-----------------------------------------------------------------------|
    | `above` | number `indices` of `key` at or above `threshold` (all of them)       |
    | `below` | at or below `threshold`                                               |
    | `near`  | those numbers within `threshold` (Euclidean) of `goal` or `goal_key`  |
    | `end`   | the episode's end, as `done` says: a reward once, at the last frame    |

    The reward is `success_reward` on success, plus `step_reward` at each frame, minus `distance_weight` times
    the distance for `near`. It has the leading shape of the value: (B,) for (B, D), (B, T) for (B, T, D), a
    float for a robot's number. `next.success` goes into the complementary data, from where a batch has it.

    Args:
        rule (`str`, *optional*, defaults to `"above"`): Which of the table.
        key (`str`, *optional*, defaults to `"observation.state"`): A feature or a robot's number; `action`
            too.
        indices (`list[int]`, *optional*): Places in `key`; None is all.
        threshold (`float`, *optional*, defaults to `0.0`): In the feature's unit.
        goal (`list[float]`, *optional*): For `near`, as many numbers as `indices`.
        goal_key (`str`, *optional*): For `near`, the observation that holds the goal.
        success_reward (`float`, *optional*, defaults to `1.0`): Reward of a success.
        step_reward (`float`, *optional*, defaults to `0.0`): Reward of each frame, such as -0.01.
        distance_weight (`float`, *optional*, defaults to `0.0`): Costs of a unit of distance, for `near`.
        ends (`bool`, *optional*, defaults to `True`): A success is the end; an end that was there stays one.
        add (`bool`, *optional*, defaults to `False`): Add to the reward that is there instead of replacing
            it.

    Raises:
        ValueError: A field is out of range or the rule lacks one; an index is no place of the feature.
        KeyError: The transition has no such feature.
    """

    rule: str = "above"
    key: str = "observation.state"
    indices: list[int] | None = None
    threshold: float = 0.0
    goal: list[float] | None = None
    goal_key: str | None = None
    success_reward: float = 1.0
    step_reward: float = 0.0
    distance_weight: float = 0.0
    ends: bool = True
    add: bool = False

    def __post_init__(self) -> None:
        require("rule", self.rule, self.rule in RULES, f"one of {', '.join(RULES)}")
        for name in ("threshold", "success_reward", "step_reward", "distance_weight"):
            require(name, getattr(self, name), is_number(getattr(self, name)), "a number")
        places = self.indices is None or (bool(self.indices) and all(is_whole(each) for each in self.indices))
        require("indices", self.indices, places, "a list of places, 0 or more, or none")
        near = self.rule == "near"
        one = (self.goal is None) != (self.goal_key is None) if near else not (self.goal or self.goal_key)
        require(
            "goal, goal_key", (self.goal, self.goal_key), one, "given, one of them, for `near` and only there"
        )
        numbers = self.goal is None or all(is_number(each) for each in self.goal)
        require("goal", self.goal, numbers, "a list of numbers")
        require("threshold", self.threshold, not near or self.threshold > 0, "above 0 for `near`")
        costs = near or self.distance_weight == 0
        require("distance_weight", self.distance_weight, costs, "0 but for `near`")

    def __call__(self, transition: Transition) -> Transition:
        """The labelled transition."""
        success, distance, is_named = self._judged(transition)
        reward = success.to(torch.float32) * self.success_reward + self.step_reward
        if distance is not None:
            reward = reward - self.distance_weight * distance.to(torch.float32)
        done = _as_bools(transition.get(TransitionKey.DONE), success)
        if self.add:
            reward = reward + _as_numbers(transition.get(TransitionKey.REWARD), reward)
        if self.ends:
            done = done | success
        extras = dict(transition.get(TransitionKey.COMPLEMENTARY_DATA) or {})
        extras[SUCCESS] = bool(success) if is_named else success
        return {
            **transition,
            TransitionKey.REWARD: float(reward) if is_named else reward,
            TransitionKey.DONE: bool(done) if is_named else done,
            TransitionKey.COMPLEMENTARY_DATA: extras,
        }

    def transform_features(self, features: Features) -> Features:
        """Unchanged: labels are no observation."""
        return features

    def _judged(self, transition: Transition) -> tuple[Tensor, Tensor | None, bool]:
        """Success, distance, and whether the value is a robot's number."""
        if self.rule == "end":
            done = transition.get(TransitionKey.DONE)
            tensor = isinstance(done, Tensor)
            return torch.as_tensor(done if done is not None else False).bool(), None, not tensor
        value, is_named = self._value(transition, self.key)
        if self.rule == "near":
            goal, _ = self._goal(transition, value)
            distance = torch.linalg.vector_norm(value - goal, dim=-1)
            return distance <= self.threshold, distance, is_named
        passed = value >= self.threshold if self.rule == "above" else value <= self.threshold
        return passed.all(-1), None, is_named

    def _goal(self, transition: Transition, value: Tensor) -> tuple[Tensor, bool]:
        if self.goal_key is not None:
            found, is_named = self._value(transition, self.goal_key)
            goal = found.to(value.device, value.dtype)
        else:
            goal, is_named = value.new_tensor(self.goal), False
        require("goal", tuple(goal.shape), goal.shape[-1] == value.shape[-1], f"{value.shape[-1]} numbers")
        return goal, is_named

    def _value(self, transition: Transition, key: str) -> tuple[Tensor, bool]:
        """The feature's numbers (…, D), and whether it is a robot's number."""
        found = _found(transition, key)
        is_named = not isinstance(found, Tensor)
        numbers = torch.as_tensor(found, dtype=torch.float32) if is_named else found
        numbers = numbers.unsqueeze(-1) if numbers.ndim == 0 else numbers
        if self.indices is None or (key == self.goal_key and numbers.shape[-1] == len(self.indices)):
            return numbers, is_named
        inside = max(self.indices) < numbers.shape[-1]
        require("indices", self.indices, inside, f"places of `{key}`, which has {numbers.shape[-1]}")
        return numbers[..., self.indices], is_named


def _found(transition: Transition, key: str) -> Any:
    observation = transition.get(TransitionKey.OBSERVATION) or {}
    action = transition.get(TransitionKey.ACTION)
    named = {**(action if isinstance(action, Mapping) else {ACTION: action}), **observation}
    if named.get(key) is None:
        there = ", ".join(f"`{name}`" for name, value in named.items() if value is not None) or "nothing"
        part = "action" if key == ACTION else "observation"
        raise KeyError(f"the labels' rule reads `{key}`, and the {part} has not got it; there are {there}.")
    return named[key]


def _as_bools(done: Any, like: Tensor) -> Tensor:
    if done is None:
        return torch.zeros_like(like, dtype=torch.bool)
    return torch.as_tensor(done, device=like.device).bool().expand_as(like)


def _as_numbers(reward: Any, like: Tensor) -> Tensor:
    if reward is None:
        return torch.zeros_like(like)
    return torch.as_tensor(reward, device=like.device, dtype=like.dtype)
