# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own `act` and `diffusion` under the policy contract; what they do not keep is listed."""

import dataclasses

import pytest
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

from lerobot_ext.cli.command import CommandError
from lerobot_ext.testing import PolicyContract, known_failure

SILENT_NORMALISER = (
    "LeRobot 0.6.1, processor/normalize_processor.py:330: a feature without statistics passes as it is"
)


class TestAct(PolicyContract):
    def make_config(self):
        return ACTConfig(
            device="cpu",
            pretrained_backbone_weights=None,
            dim_model=32,
            n_heads=2,
            dim_feedforward=64,
            chunk_size=8,
            n_action_steps=4,
            n_encoder_layers=1,
            n_vae_encoder_layers=1,
        )

    test_missing_statistics_are_refused = known_failure(
        PolicyContract.test_missing_statistics_are_refused, SILENT_NORMALISER
    )


class TestDiffusion(PolicyContract):
    def make_config(self):
        return DiffusionConfig(
            device="cpu",
            pretrained_backbone_weights=None,
            horizon=8,
            n_action_steps=4,
            down_dims=(16, 32),
            num_inference_steps=2,
        )

    test_missing_statistics_are_refused = known_failure(
        PolicyContract.test_missing_statistics_are_refused, SILENT_NORMALISER
    )
    test_padded_actions_do_not_count = known_failure(
        PolicyContract.test_padded_actions_do_not_count,
        "LeRobot 0.6.1, policies/diffusion/configuration_diffusion.py:156: padding counts unless "
        "`do_mask_loss_for_padding` is set",
    )
    test_plans_from_one_observation = known_failure(
        PolicyContract.test_plans_from_one_observation,
        "LeRobot 0.6.1, policies/diffusion/modeling_diffusion.py:320: without a queue it wants "
        "`n_obs_steps` frames",
    )
    test_bad_settings_are_refused = known_failure(
        PolicyContract.test_bad_settings_are_refused,
        "LeRobot 0.6.1, policies/diffusion/configuration_diffusion.py:162: `n_action_steps` is not checked; "
        "the chunk is then shorter",
    )


def test_a_field_of_diffusion_masks_the_padding():
    class Masking(TestDiffusion):
        def make_config(self):
            return dataclasses.replace(super().make_config(), do_mask_loss_for_padding=True)

    assert Masking().judge("test_padded_actions_do_not_count").status == "passed"


@pytest.mark.parametrize("settings", [{}, {"chunk_size": "8", "n_action_steps": "3"}])
def test_a_choice_is_configured_like_on_a_command_line(settings):
    contract = PolicyContract.for_choice("act", settings)
    assert contract.changed == {"pretrained_backbone_weights": "null, because a check downloads nothing"}
    config = contract().config()
    assert config.pretrained_backbone_weights is None
    assert config.chunk_size == int(settings.get("chunk_size", 100))
    assert config.action_feature.shape == (6,)


def test_an_unknown_choice_names_the_known_ones():
    with pytest.raises(CommandError, match="registered as 'acr'") as caught:
        PolicyContract.for_choice("acr", {})
    assert caught.value.remedy == "did you mean `act`?"
