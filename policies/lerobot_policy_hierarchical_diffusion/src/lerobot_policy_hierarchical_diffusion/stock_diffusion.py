# SPDX-License-Identifier: Apache-2.0
"""The observation encoder of LeRobot's own diffusion policy, as a part of ours.

It is LeRobot's code, built from LeRobot's configuration. With it, LeRobot's temporal U-Net as denoiser and no
layers, our policy is LeRobot's diffusion policy, loss for loss.

Legend: `B` batch, `O` observation steps, `C` condition width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from lerobot.utils.constants import OBS_ENV_STATE, OBS_IMAGES, OBS_STATE
from torch import Tensor, nn

if TYPE_CHECKING:
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

    from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig


def stock_config(config: HierarchicalDiffusionConfig) -> DiffusionConfig:
    """LeRobot's configuration of a diffusion policy with the same features and sizes."""
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

    return DiffusionConfig(
        n_obs_steps=config.n_obs_steps,
        horizon=config.horizon,
        n_action_steps=1,
        input_features=config.input_features,
        output_features=config.output_features,
        down_dims=tuple(config.unet_dims),
        resize_shape=tuple(config.image_size),
        pretrained_backbone_weights=None,
        use_group_norm=True,
        use_separate_rgb_encoder_per_camera=False,
        device="cpu",  # only where the stock config would place a policy; `.to` moves these modules
    )


class StockObservationEncoder(nn.Module):
    """State, cameras and environment of the newest frames, encoded as LeRobot's diffusion policy does.

    Args:
        config (`HierarchicalDiffusionConfig`): Features and sizes; all cameras are colour, of one shape.
    """

    def __init__(self, config: HierarchicalDiffusionConfig) -> None:
        super().__init__()
        from lerobot.policies.diffusion.modeling_diffusion import DiffusionRgbEncoder

        self.config = stock_config(config)
        self.rgb_encoder = DiffusionRgbEncoder(self.config) if config.image_features else None
        vectors = (config.robot_state_feature, config.env_state_feature)
        widths = [feature.shape[0] for feature in vectors if feature is not None]
        if self.rgb_encoder is not None:
            widths.append(self.rgb_encoder.feature_dim * len(config.image_features))
        self.dim = config.n_obs_steps * sum(widths)

    def forward(self, state: Tensor, environment: Tensor | None, images: list[Tensor]) -> Tensor:
        """Encode frames.

        Args:
            state (`Tensor`): (B, O, S).
            environment (`Tensor`, *optional*): (B, O, E).
            images (`list[Tensor]`): One (B, O, 3, H, W) a camera.

        Returns:
            `Tensor`: (B, C).
        """
        from lerobot.policies.diffusion.modeling_diffusion import DiffusionModel

        batch = {OBS_STATE: state}
        if environment is not None:
            batch[OBS_ENV_STATE] = environment
        if images:
            batch[OBS_IMAGES] = torch.stack(images, dim=-4)
        # The method needs no more of its object than this module has: `config` and `rgb_encoder`.
        encoded: Tensor = DiffusionModel._prepare_global_conditioning(cast(Any, self), batch)
        return encoded
