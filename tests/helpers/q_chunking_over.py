# SPDX-License-Identifier: Apache-2.0
"""Q-chunking over another policy, small enough to train a step in milliseconds."""

from typing import Any

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot_policy_act_plus import ActPlusConfig
from lerobot_policy_hierarchical_diffusion import HierarchicalDiffusionConfig
from lerobot_policy_q_chunking import QChunkingConfig, QChunkingPolicy
from small_hierarchical import SMALL as SMALL_HIERARCHY

from lerobot_ext.testing.contracts.synthetic import synthetic_batch, synthetic_features, synthetic_stats

SMALL = {
    "device": "cpu",
    "push_to_hub": False,
    "hidden_dim": 16,
    "obs_feature_dim": 16,
    "image_feature_dim": 16,
    "image_size": (32, 32),
    "chunk_size": 4,
    "n_action_steps": 2,
    "num_samples": 3,
    "num_target_samples": 2,
    "tau": 0.1,
}
OWN = {"device": "cpu", "push_to_hub": False}


def diffusion(**fields: Any) -> DiffusionConfig:
    """LeRobot's, which looks at two frames."""
    small = {
        "horizon": 8,
        "n_action_steps": 4,
        "down_dims": (16, 32),
        "n_groups": 4,
        "diffusion_step_embed_dim": 16,
        "num_train_timesteps": 10,
        "num_inference_steps": 2,
        "pretrained_backbone_weights": None,
        "do_mask_loss_for_padding": True,
    }
    return DiffusionConfig(**OWN, **{**small, **fields})


def hierarchical_diffusion(**fields: Any) -> HierarchicalDiffusionConfig:
    """Ours, which looks back and, in training, ahead."""
    return HierarchicalDiffusionConfig(**OWN, **{**SMALL_HIERARCHY, **fields})


def act_plus(**fields: Any) -> ActPlusConfig:
    """ACT+ with its flow head, which samples; no axis of time."""
    small = {
        "head": "flow",
        "flow_steps": 2,
        "chunk_size": 6,
        "n_action_steps": 6,
        "dim_model": 16,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "use_vae": False,
        "pretrained_backbone_weights": None,
    }
    return ActPlusConfig(**OWN, **{**small, **fields})


ACTORS = {"diffusion": diffusion, "hierarchical_diffusion": hierarchical_diffusion, "act_plus": act_plus}


def over(
    actor: PreTrainedConfig, *, cameras: Any = (), environment: int = 3, **fields: Any
) -> QChunkingConfig:
    """Q-chunking over an actor, with features."""
    shapes = synthetic_features(5, 4, cameras, environment)
    return QChunkingConfig(**{"extraction": "best_of_n", **SMALL, **shapes, "actor": actor, **fields})


def build(config: QChunkingConfig, meta: LeRobotDatasetMetadata | None = None) -> QChunkingPolicy:
    """The policy, from a seed."""
    torch.manual_seed(0)
    return QChunkingPolicy(config, dataset_stats=stats_of(config), dataset_meta=meta)


def stats_of(config: PreTrainedConfig) -> dict[str, Any]:
    """Made-up statistics of its features."""
    return synthetic_stats({**(config.input_features or {}), **(config.output_features or {})})


def raw_batch(config: PreTrainedConfig, size: int = 3) -> dict[str, Any]:
    """What the data loader gives for its delta indices."""
    return synthetic_batch(config, stats_of(config), size)


def training_batch(config: PreTrainedConfig, size: int = 3) -> dict[str, Any]:
    """The same, preprocessed."""
    before, _ = make_pre_post_processors(config, dataset_stats=stats_of(config))
    found: dict[str, Any] = before(raw_batch(config, size))
    return found
