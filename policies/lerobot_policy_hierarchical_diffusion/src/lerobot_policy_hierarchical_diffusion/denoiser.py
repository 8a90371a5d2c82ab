# SPDX-License-Identifier: Apache-2.0
"""Denoisers: networks that clean a noisy action chunk under a condition.

Both share one call, `denoiser(noisy (B, H, A), timestep (B,), condition (B, C)) -> (B, H, A)`.
Legend: `B` batch, `H` chunk length, `A` action width, `C` condition width.
"""

from __future__ import annotations

import torch
from lerobot.configs import FeatureType, PolicyFeature
from torch import Tensor, nn
from torch.nn import functional as F

from lerobot_ext.nn.blocks import FiLMResidualBlock
from lerobot_ext.nn.embeddings import SinusoidalEmbedding

from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig

_TIME_DIM = 64


class MLPDenoiser(nn.Module):
    """FiLM residual network over the flattened chunk.

    A chunk of a small arm has some hundred numbers: as one vector it costs a few matrix products, where a
    temporal network pays for every frame. The condition enters every block.

    Args:
        horizon (`int`): Chunk length H.
        action_dim (`int`): Action width A.
        condition_dim (`int`): Condition width C.
        dim (`int`): Width of the residual stream.
        depth (`int`): Number of residual blocks.
    """

    def __init__(self, horizon: int, action_dim: int, condition_dim: int, dim: int, depth: int) -> None:
        super().__init__()
        self.time = nn.Sequential(SinusoidalEmbedding(_TIME_DIM), nn.Linear(_TIME_DIM, dim), nn.SiLU())
        self.condition = nn.Linear(dim + condition_dim, dim)
        self.input = nn.Linear(horizon * action_dim, dim)
        self.blocks = nn.ModuleList(FiLMResidualBlock(dim, dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, horizon * action_dim)

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """Predict the clean chunk or its noise (see the module)."""
        modulation = F.silu(self.condition(torch.cat([self.time(timestep), condition], dim=-1)))
        hidden = self.input(noisy.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, modulation)
        predicted: Tensor = self.output(self.norm(hidden))
        return predicted.view_as(noisy)


class UNetDenoiser(nn.Module):
    """Stock LeRobot's temporal U-Net behind the common call.

    Args:
        horizon (`int`): Chunk length H.
        action_dim (`int`): Action width A.
        condition_dim (`int`): Condition width C.
        down_dims (`tuple[int, ...]`): Channels of its levels.
    """

    def __init__(self, horizon: int, action_dim: int, condition_dim: int, down_dims: tuple[int, ...]) -> None:
        super().__init__()
        from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
        from lerobot.policies.diffusion.modeling_diffusion import DiffusionConditionalUnet1d

        stock = DiffusionConfig(
            horizon=horizon,
            n_action_steps=1,
            down_dims=tuple(down_dims),
            output_features={"action": PolicyFeature(FeatureType.ACTION, (action_dim,))},
            device="cpu",  # only where the stock config would place a policy; `.to` moves this module
        )
        self.unet = DiffusionConditionalUnet1d(stock, global_cond_dim=condition_dim)

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """Predict the clean chunk or its noise (see the module)."""
        predicted: Tensor = self.unet(noisy, timestep, global_cond=condition)
        return predicted


def make_denoiser(config: HierarchicalDiffusionConfig, action_dim: int, condition_dim: int) -> nn.Module:
    """Build the denoiser that `config.denoiser` names, for a condition of width `condition_dim`."""
    if config.denoiser == "unet":
        return UNetDenoiser(config.horizon, action_dim, condition_dim, tuple(config.unet_dims))
    return MLPDenoiser(config.horizon, action_dim, condition_dim, config.denoiser_dim, config.denoiser_depth)
