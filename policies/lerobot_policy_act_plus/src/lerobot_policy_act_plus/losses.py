# SPDX-License-Identifier: Apache-2.0
"""ACT's losses, sample by sample.

Legend: `B` batch, `T` chunk, `A` action width, `L` latent width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_error(error: Tensor, counted: Tensor) -> Tensor:
    """Mean error of the actions that count, split over the samples so that its mean is stock ACT's loss.

    Args:
        error (`Tensor`): (B, T, A), 0 or more.
        counted (`Tensor`): (B, T) bool.

    Returns:
        `Tensor`: (B,): the sum over a sample, times B, divided by all numbers that count.
    """
    sums = (error * counted[..., None]).sum((1, 2))
    return sums * len(error) / (counted.sum() * error.shape[-1]).clamp_min(1)


def divergence(mu: Tensor, log_sigma_x2: Tensor) -> Tensor:
    """KL divergence (B,) of the VAE's latents (B, L) from a standard normal."""
    return -0.5 * (1 + log_sigma_x2 - mu.pow(2) - torch.exp(log_sigma_x2)).sum(-1)
