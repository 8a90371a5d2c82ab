# SPDX-License-Identifier: Apache-2.0
"""Q-chunking, by each of its extractions and with other policies as the actor, keeps the policy contract."""

from __future__ import annotations

import pytest
from lerobot_policy_q_chunking import QChunkingConfig

from lerobot_ext.testing import PolicyContract

SMALL = {
    "device": "cpu",
    "hidden_dim": 16,
    "obs_feature_dim": 16,
    "image_feature_dim": 16,
    "image_size": (32, 32),
    "actor_hidden_dim": 16,
    "actor_hidden_layers": 2,
    "transformer_dim": 16,
    "transformer_layers": 1,
    "transformer_heads": 2,
    "num_samples": 3,
    "num_target_samples": 2,
    "tau": 0.1,
}
BAD = {
    "n_action_steps": 9,
    "chunk_size": 0,
    "discount": 1.0,
    "extraction": "sac",
    "aggregation": "median",
    "reward_source": "next.return",
    "terminal_mode": "timeout",
    "vision_backbone": "vit",
    "image_size": (16, 96),
    "tau": 0.0,
    "actor_ema": 1.0,
    "bootstrap_probability": 0.0,
    "transformer_heads": 3,
    "num_samples": 0,
    "actor_lora_rank": 4,
    "freeze_actor": True,
}


class TestDistillWithCameras(PolicyContract):
    def make_config(self):
        return QChunkingConfig(**SMALL)

    def bad_settings(self, config):
        return BAD


class TestBestOfNOnJoints(PolicyContract):
    def make_config(self):
        return QChunkingConfig(
            **SMALL, extraction="best_of_n", aggregation="mean_minus_std", bootstrap_probability=0.5
        )

    def features(self, **sizes):
        return super().features(**{"cameras": (), "environment": 3, **sizes})


class TestAdvantageWeighted(PolicyContract):
    def make_config(self):
        return QChunkingConfig(**SMALL, extraction="awr", chunk_size=4, aggregation="min")


@pytest.mark.slow
class TestCloning(PolicyContract):
    def make_config(self):
        return QChunkingConfig(**SMALL, extraction="bc", chunk_size=4)
