# SPDX-License-Identifier: Apache-2.0
"""Losses and weights of offline reinforcement learning; functions of tensors alone.

Legend: `B` batch, `E` ensemble member.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Losses(NamedTuple):
    """What a batch of B samples costs.

    Attributes:
        total (`Tensor`): (B,) loss of each sample.
        parts (`dict[str, Tensor]`): () each, for the log.
        values (`dict[str, Tensor]`): () each, for the log, in units of the labels' scale.
    """

    total: Tensor
    parts: dict[str, Tensor]
    values: dict[str, Tensor]

    def reduced(self, reduction: str) -> Tensor:
        """The loss, () for `"mean"` and (B,) for `"none"`.

        Raises:
            ValueError: It is neither.
        """
        if reduction not in ("mean", "none"):
            raise ValueError(f"`reduction` ({reduction!r}) must be 'mean' or 'none'.")
        return self.total if reduction == "none" else self.total.mean()

    def figures(self, scale: Tensor) -> dict[str, float]:
        """Plain floats for the log, fetched from the device at once; values times `scale` ()."""
        every = self.parts | {name: value * scale for name, value in self.values.items()}
        numbers = torch.stack([figure.detach().float() for figure in every.values()]).tolist()
        return dict(zip(every, numbers, strict=True))


def masked_mean(values: Tensor, mask: Tensor, reduction: str = "mean") -> Tensor:
    """Mean of `values` over the samples of `mask`.

    Args:
        values (`Tensor`): (..., B); what is masked out may be NaN and gets no gradient.
        mask (`Tensor`): (B,) bool, or weights that are not negative.
        reduction (`str`, *optional*, defaults to `"mean"`): `"none"` gives (..., B), scaled so that its mean
            over the batch is the masked mean.

    Returns:
        `Tensor`: (...) or (..., B); zero, and with zero gradients, where nothing is in the mask.
    """
    weights = mask.to(values.dtype)
    kept = torch.where(mask.bool(), values, 0.0) * weights
    scaled = kept * (weights.numel() / weights.sum().clamp_min(torch.finfo(values.dtype).tiny))
    return scaled if reduction == "none" else scaled.mean(-1)


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Asymmetric squared error whose minimiser is an expectile (IQL, Kostrikov et al., 2021).

    Args:
        difference (`Tensor`): `target - prediction`, any shape.
        expectile (`float`): Weight of positive differences, in (0, 1); 0.5 is half the squared error.

    Returns:
        `Tensor`: Of the same shape.
    """
    # Not by `where` of two Python numbers, which is single precision whatever the difference is.
    weight = (1.0 - expectile) + (difference > 0).to(difference.dtype) * (2.0 * expectile - 1.0)
    return weight * difference.square()


def two_level_weights(advantage: Tensor, expectile: float) -> Tensor:
    """LAPO's weights: `expectile` for a positive advantage, `1 - expectile` otherwise; no gradient."""
    return torch.where(advantage.detach() > 0, expectile, 1.0 - expectile).to(advantage.dtype)


def exponential_weights(advantage: Tensor, inverse_temperature: float, largest: float = 100.0) -> Tensor:
    """Weights `exp(β · advantage)` up to `largest` (AWR, IQL); no gradient.

    Args:
        advantage (`Tensor`): Any shape.
        inverse_temperature (`float`): β, 0 or more; 0 weights all alike.
        largest (`float`, *optional*, defaults to `100.0`): Cap of a weight.
    """
    exponent = inverse_temperature * advantage.detach()
    ceiling = torch.log(torch.as_tensor(largest, dtype=advantage.dtype, device=advantage.device))
    return exponent.minimum(ceiling).exp()


def gaussian_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL divergence of N(mean, std²) from N(0, 1), summed over the last dimension."""
    return (0.5 * (mean.square() + (2 * log_std).exp() - 1.0) - log_std).sum(-1)
