# SPDX-License-Identifier: Apache-2.0
"""The MLP denoiser for a chain of steps: all modulations at once, then the residual stream step by step.

Legend: `B` batch, `K` denoising steps, `H` chunk length, `A` action width, `C` condition width, `D` width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerobot_ext.nn.blocks import FiLM, FiLMResidualBlock
from lerobot_ext.nn.embeddings import SinusoidalEmbedding

from ..denoiser import MLPDenoiser


def plain_types() -> frozenset[type[nn.Module]]:
    """What an MLP denoiser is made of."""
    ours = {MLPDenoiser, FiLM, FiLMResidualBlock, SinusoidalEmbedding}
    return frozenset(ours | {nn.Sequential, nn.ModuleList, nn.Linear, nn.SiLU, nn.LayerNorm})


class FastMLP:
    """An `MLPDenoiser` under one condition.

    Args:
        denoiser (`MLPDenoiser`): In evaluation mode or not; it has no dropout.
        condition (`Tensor`): (B, C).
    """

    def __init__(self, denoiser: MLPDenoiser, condition: Tensor) -> None:
        self._denoiser = denoiser
        joint = denoiser.condition
        self._time_dim = joint.in_features - condition.shape[-1]
        self._conditioned = F.linear(condition, joint.weight[:, self._time_dim :], joint.bias)  # (B, D)

    def over(self, timesteps: Tensor) -> Callable[[Tensor, int], Tensor]:
        """Prepare for `timesteps` (K,); see `Conditioned.over`."""
        net = self._denoiser
        timed = F.linear(net.time(timesteps), net.condition.weight[:, : self._time_dim])  # (K, D)
        modulation = F.silu(timed[:, None] + self._conditioned)  # (K, B, D)
        films = []
        for block in net.blocks:
            scale, shift = block.film.projection(modulation).chunk(2, dim=-1)  # type: ignore[operator, union-attr]
            films.append((1 + scale, shift))  # (K, B, D) each

        def predict(noisy: Tensor, step: int) -> Tensor:
            hidden = net.input(noisy.flatten(1))
            for block, (scale, shift) in zip(net.blocks, films, strict=True):
                modulated = torch.addcmul(shift[step], block.norm(hidden), scale[step])  # type: ignore[operator]
                hidden = hidden + block.down(F.gelu(block.up(modulated)))  # type: ignore[operator]
            predicted: Tensor = net.output(net.norm(hidden))
            return predicted.view_as(noisy)

        return predict
