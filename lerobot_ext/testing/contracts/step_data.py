# SPDX-License-Identifier: Apache-2.0
"""Transitions for processor steps, and how two of them are compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType
from lerobot.configs.types import PipelineFeatureType, PolicyFeature
from lerobot.processor import TransitionKey
from lerobot.processor.converters import batch_to_transition, create_transition
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from torch import Tensor

from .synthetic import TASK, synthetic_batch, synthetic_features, synthetic_stats

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


@dataclass
class _OneFrame:
    """As much of a policy's config as a batch of single frames needs."""

    input_features: dict[str, PolicyFeature]
    output_features: dict[str, PolicyFeature]
    observation_delta_indices: None = None
    action_delta_indices: None = None
    reward_delta_indices: None = None


def policy_transition(size: int = 2, **sizes: Any) -> dict[Any, Any]:
    """Samples of an arm with two cameras: tensors (B, …), as the steps of a policy get them.

    Args:
        size (`int`): B.
        **sizes (`Any`): Arguments of `synthetic_features`, such as `state=9`.
    """
    features = synthetic_features(**sizes)
    config: Any = _OneFrame(features["input_features"], features["output_features"])
    stats = synthetic_stats({**features["input_features"], **features["output_features"]})
    transition: dict[Any, Any] = batch_to_transition(synthetic_batch(config, stats, size, TASK))
    return transition


def robot_transition() -> dict[Any, Any]:
    """One moment of an arm with two cameras: named numbers and images, as a robot's steps get them."""
    drawn = np.random.default_rng(5)
    observation: dict[str, Any] = {f"{joint}.pos": float(drawn.uniform(-90, 90)) for joint in JOINTS}
    for camera in ("front", "wrist"):
        observation[camera] = drawn.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    action = {f"{joint}.pos": float(drawn.uniform(-90, 90)) for joint in JOINTS}
    transition: dict[Any, Any] = create_transition(
        observation=observation, action=action, complementary_data={"task": TASK}
    )
    return transition


def shapes_of(transition: Mapping[Any, Any]) -> dict[PipelineFeatureType, dict[str, Any]]:
    """The features of a transition: `PolicyFeature` for a tensor, as a robot declares them for the rest."""
    found: dict[PipelineFeatureType, dict[str, Any]] = {}
    for kind, part in (
        (PipelineFeatureType.OBSERVATION, TransitionKey.OBSERVATION),
        (PipelineFeatureType.ACTION, TransitionKey.ACTION),
    ):
        value = transition[part]
        named = value if isinstance(value, Mapping) else {ACTION: value}
        found[kind] = {name: _feature(name, each) for name, each in named.items()}
    return found


def _feature(name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        kinds = {ACTION: FeatureType.ACTION, OBS_STATE: FeatureType.STATE, OBS_ENV_STATE: FeatureType.ENV}
        kind = FeatureType.VISUAL if value.ndim == 4 else kinds.get(name, FeatureType.STATE)
        return PolicyFeature(kind, tuple(value.shape[1:]))
    return value.shape if isinstance(value, np.ndarray) else float


def observed_shapes(transition: Mapping[Any, Any], part: TransitionKey) -> dict[str, tuple[int, ...]]:
    """The shape of each value in one part of a transition; a tensor's axis of samples does not count."""
    value = transition[part]
    named = value if isinstance(value, Mapping) else {} if value is None else {ACTION: value}
    return {
        name: tuple(each.shape[1:]) if isinstance(each, Tensor) else np.shape(each)
        for name, each in named.items()
        if isinstance(each, (Tensor, np.ndarray, int, float))
    }


def halved(value: Any) -> Any:
    """A transition that differs: every number that is not whole is half of what it was."""
    if isinstance(value, Mapping):
        return {key: halved(each) for key, each in value.items()}
    if isinstance(value, Tensor):
        return value * 0.5 if value.is_floating_point() else value
    return value * 0.5 if isinstance(value, float) else value


def differences(first: Any, second: Any, tolerance: float = 0.0) -> str:
    """Where two transitions differ by more than `tolerance` of their size; empty when they do not."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        apart = [str(getattr(key, "value", key)) for key in {*first} ^ {*second}]
        if apart:
            return f"{', '.join(f'`{key}`' for key in sorted(apart))} on one side only"
        for key in first:
            found = differences(first[key], second[key], tolerance)
            if found:
                return f"`{getattr(key, 'value', key)}`: {found}"
        return ""
    if isinstance(first, (Tensor, np.ndarray)) and isinstance(second, (Tensor, np.ndarray)):
        one, other = torch.as_tensor(first), torch.as_tensor(second)
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"{tuple(one.shape)} {one.dtype} and {tuple(other.shape)} {other.dtype}"
        if torch.equal(one, other) or not one.numel():
            return ""
        gap = float((one.double() - other.double()).abs().max())
        return "" if gap <= tolerance * float(one.double().abs().max()) else f"values up to {gap:.3g} apart"
    numbers = isinstance(first, float) and isinstance(second, float)
    if numbers and abs(first - second) <= tolerance * abs(first):
        return ""
    return "" if type(first) is type(second) and first == second else f"{first!r} and {second!r}"[:120]
