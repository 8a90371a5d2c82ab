# SPDX-License-Identifier: Apache-2.0
"""ACT policies, stock and act_plus, that train a step in milliseconds, and synthetic batches for them."""

from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot_policy_act_plus import ActPlusConfig, ActPlusPolicy

SMALL: dict[str, Any] = {
    "device": "cpu",
    "chunk_size": 8,
    "n_action_steps": 4,
    "pretrained_backbone_weights": None,
    "dim_model": 16,
    "n_heads": 2,
    "dim_feedforward": 32,
    "n_encoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "latent_dim": 4,
}


def features(
    state: int = 4, env: int = 0, cameras: int = 0, depths: int = 0, action: int = 4
) -> dict[str, Any]:
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (state,))}
    if env:
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (env,))
    for i in range(cameras):
        inputs[f"observation.images.cam{i}"] = PolicyFeature(FeatureType.VISUAL, (3, 64, 64))
    for i in range(depths):
        inputs[f"observation.images.cam{i}_depth"] = PolicyFeature(FeatureType.VISUAL, (1, 64, 64))
    return {
        "input_features": inputs,
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (action,))},
    }


def act_config(
    kind: type[ACTConfig] = ActPlusConfig, *, shape: dict[str, int] | None = None, **fields: Any
) -> Any:
    return kind(**{**SMALL, **features(**(shape or {"env": 3})), **fields})


def act_plus(
    *, shape: dict[str, int] | None = None, seed: int = 0, stats: Any = None, **fields: Any
) -> ActPlusPolicy:
    config = act_config(shape=shape, **fields)
    torch.manual_seed(seed)
    return ActPlusPolicy(config, dataset_stats=stats)


def training_batch(config: Any, size: int = 4, seed: int = 0) -> dict[str, Any]:
    """A batch as the preprocessor hands it over; the last sample's second half is padding."""
    generator = torch.Generator().manual_seed(seed)
    batch: dict[str, Any] = {
        name: torch.randn((size, *feature.shape), generator=generator)
        for name, feature in config.input_features.items()
    }
    batch["action"] = torch.randn(
        (size, config.chunk_size, *config.action_feature.shape), generator=generator
    )
    batch["action_is_pad"] = torch.zeros(size, config.chunk_size, dtype=torch.bool)
    batch["action_is_pad"][-1, config.chunk_size // 2 :] = True
    batch["task"] = ["left" if number % 2 else "right" for number in range(size)]
    batch["observation.advantage"] = torch.linspace(-1, 1, size)[:, None]
    return batch


def observation(config: Any, size: int = 1, seed: int = 0) -> dict[str, Any]:
    """What the preprocessor makes of sensors: no actions."""
    batch = training_batch(config, size, seed)
    return {key: batch[key] for key in (*config.input_features, "task")}
