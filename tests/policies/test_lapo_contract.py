# SPDX-License-Identifier: Apache-2.0
"""LAPO and its baselines keep the policy contract."""

from __future__ import annotations

import pytest
from lerobot_policy_lapo import LAPOConfig

from lerobot_ext.testing import PolicyContract

SMALL = {
    "device": "cpu",
    "hidden_dim": 16,
    "hidden_layers": 2,
    "obs_feature_dim": 16,
    "image_feature_dim": 16,
    "image_size": (32, 32),
    "tau": 0.1,
}
BAD = {
    "n_action_steps": 9,
    "chunk_size": 0,
    "discount": 1.0,
    "extraction": "sac",
    "expectile": 1.0,
    "reward_source": "next.return",
    "terminal_mode": "timeout",
    "encoder_trained_by": "actor",
    "vision_backbone": "vit",
    "pretrained_backbone_weights": "IMAGENET1K_V1",
    "image_size": (16, 96),
    "tau": 0.0,
    "kl_beta": -1.0,
}


class TestLapoWithCameras(PolicyContract):
    def make_config(self):
        return LAPOConfig(**SMALL)

    def bad_settings(self, config):
        return BAD


class TestIqlOnJoints(PolicyContract):
    def make_config(self):
        return LAPOConfig(**SMALL, extraction="iql")

    def features(self, **sizes):
        return super().features(**{"cameras": (), "environment": 3, **sizes})


class TestCloning(PolicyContract):
    def make_config(self):
        return LAPOConfig(**SMALL, extraction="bc", chunk_size=4)


@pytest.mark.slow
class TestThreeCamerasAndSixteenJoints(PolicyContract):
    """The robot of the multimodal LAPO guide, one action a chunk."""

    def make_config(self):
        return LAPOConfig(**SMALL, chunk_size=1, n_action_steps=1, vision_backbone="resnet18")

    def features(self, **sizes):
        return super().features(
            **{"state": 16, "action": 16, "cameras": ((84, 84), (84, 84), (84, 84)), **sizes}
        )
