# SPDX-License-Identifier: Apache-2.0
"""Small policies and synthetic batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot_policy_hierarchical_diffusion import HierarchicalDiffusionConfig
from lerobot_policy_hierarchical_diffusion.modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy
from small_hierarchical import SMALL


class Episodes:
    """What the policy reads of a dataset's metadata: two episodes of 40 and 60 frames."""

    fps = 30
    episodes = {"dataset_from_index": [0, 40], "dataset_to_index": [40, 100]}  # noqa: RUF012


def features(
    state: int, action: int, env: int, cameras: int, depths: int
) -> dict[str, dict[str, PolicyFeature]]:
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (state,))}
    if env:
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (env,))
    for i in range(cameras):
        inputs[f"observation.images.cam{i}"] = PolicyFeature(FeatureType.VISUAL, (3, 40 + 8 * i, 48))
    for i in range(depths):
        inputs[f"observation.images.depth{i}"] = PolicyFeature(FeatureType.VISUAL, (1, 40, 48 + 8 * i))
    return {
        "input_features": inputs,
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (action,))},
    }


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def make_config() -> Callable[..., HierarchicalDiffusionConfig]:
    def make(
        state: int = 4, action: int = 4, env: int = 3, cameras: int = 0, depths: int = 0, **fields: Any
    ) -> HierarchicalDiffusionConfig:
        return HierarchicalDiffusionConfig(
            device="cpu", **features(state, action, env, cameras, depths), **{**SMALL, **fields}
        )

    return make


@pytest.fixture
def make_policy(make_config: Callable[..., HierarchicalDiffusionConfig]) -> Callable[..., Any]:
    def make(stats: dict[str, Any] | None = None, **fields: Any) -> HierarchicalDiffusionPolicy:
        torch.manual_seed(1)
        config = make_config(**fields)
        return HierarchicalDiffusionPolicy(config, dataset_stats=stats, dataset_meta=Episodes())

    return make


@pytest.fixture
def make_batch() -> Callable[..., dict[str, Any]]:
    """A training batch as the preprocessor hands it over."""

    def make(config: HierarchicalDiffusionConfig, size: int = 3, seed: int = 0) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        offsets = config.observation_delta_indices
        batch: dict[str, Any] = {}
        for name, feature in (config.input_features or {}).items():
            shape = (size, len(offsets), *feature.shape)
            batch[name] = torch.randn(shape, generator=generator) * 0.3
            batch[f"{name}_is_pad"] = torch.zeros(size, len(offsets), dtype=torch.bool)
        assert config.action_feature is not None
        steps = len(config.action_delta_indices)
        batch["action"] = torch.randn(size, steps, *config.action_feature.shape, generator=generator) * 0.3
        batch["action_is_pad"] = torch.zeros(size, steps, dtype=torch.bool)
        batch["task"] = ["lift the cube"] * size
        batch["index"] = torch.arange(size) + 30
        batch["episode_index"] = torch.zeros(size, dtype=torch.long)
        return batch

    return make


@pytest.fixture
def make_observation() -> Callable[..., dict[str, Any]]:
    """One observation a robot, as at inference."""

    def make(config: HierarchicalDiffusionConfig, size: int = 1, seed: int = 0) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        observation: dict[str, Any] = {
            name: torch.randn((size, *feature.shape), generator=generator) * 0.3
            for name, feature in (config.input_features or {}).items()
        }
        observation["task"] = ["lift the cube"] * size
        return observation

    return make
