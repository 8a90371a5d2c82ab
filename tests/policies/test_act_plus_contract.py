# SPDX-License-Identifier: Apache-2.0
"""act_plus keeps the policy contract: as stock ACT, and with each flag and several of them."""

from lerobot_policy_act_plus import ActPlusConfig
from small_act import SMALL

from lerobot_ext.testing import PolicyContract

BAD = {
    "n_action_steps": 9,
    "prefix_steps": 8,
    "commit_steps": 5,
    "blend_steps": 5,
    "task_conditioning": "words",
    "depth_fusion": "early",
    "advantage": "yes",
    "guidance": 2.0,
    "head": "diffusion",
    "temporal_ensemble_coeff": -0.01,
    "text_encoder": "folder",
    "n_obs_steps": 2,
}


class TestStock(PolicyContract):
    def make_config(self):
        return ActPlusConfig(**SMALL)

    def bad_settings(self, config):
        return BAD


class TestRealTime(PolicyContract):
    def make_config(self):
        return ActPlusConfig(**SMALL, prefix_steps=4, commit_steps=2, blend_steps=1)


class TestEverythingOfTheL1Head(PolicyContract):
    def make_config(self):
        return ActPlusConfig(
            **SMALL,
            join_steps=2,
            prefix_steps=3,
            task_conditioning="text",
            task_buckets=16,
            backbone_norm="group",
            use_vae=False,
        )

    def features(self, **sizes):
        return super().features(**{"environment": 3, **sizes})


class TestFlowFromADraft(PolicyContract):
    def make_config(self):
        return ActPlusConfig(
            **SMALL,
            use_vae=False,
            head="flow",
            flow_start="draft",
            flow_draws=2,
            flow_steps=2,
            flow_solver="midpoint",
            flow_target="actions",
            task_conditioning="index",
            prefix_steps=3,
        )

    def features(self, **sizes):
        return super().features(**{"cameras": (), "environment": 3, **sizes})
