# SPDX-License-Identifier: Apache-2.0
"""The hierarchical diffusion policy keeps the policy contract, with and without cameras, MLP and U-Net."""

from lerobot_policy_hierarchical_diffusion import HierarchicalDiffusionConfig
from small_hierarchical import SMALL as DIMENSIONS

from lerobot_ext.testing import PolicyContract

SMALL = {"device": "cpu", **DIMENSIONS}
BAD = {
    "n_action_steps": 17,
    "num_inference_steps": 17,
    "history_steps": 1,
    "manipulation_dim": 15,
    "denoiser": "transformer",
    "layer_weights": {"gait": 1.0},
    "layer_dropout": 1.5,
    "draft_noise": 0.0,
    "ema_decay": 1.0,
    "image_size": (16, 96),
}


class TestCameras(PolicyContract):
    def make_config(self):
        return HierarchicalDiffusionConfig(**SMALL, n_obs_steps=2, layer_weights={"safety": 0.5})

    def bad_settings(self, config):
        return BAD


class TestStateAndEnvironment(PolicyContract):
    def make_config(self):
        return HierarchicalDiffusionConfig(
            **SMALL, denoiser="unet", unet_dims=(16, 32), prediction_type="epsilon", ema_decay=0.0
        )

    def features(self, **sizes):
        return super().features(**{"cameras": (), "environment": 3, **sizes})


class TestPretrainedKindOfBackbone(PolicyContract):
    def make_config(self):
        return HierarchicalDiffusionConfig(**SMALL, vision_backbone="resnet18")
