# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of a module's weights."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_ema(average: nn.Module, source: nn.Module, decay: float) -> None:
    """Move the parameters of `average` towards those of `source`; buffers are copied.

    Every process of a DDP run holds equal weights after its optimizer step, so each may call this on its own.

    Args:
        average (`nn.Module`): Module of the same structure that holds the average; changed in place.
        source (`nn.Module`): The module being trained.
        decay (`float`): Share of the old average that stays, in [0, 1].
    """
    targets = [p.data for p in average.parameters()]
    sources = [p.data for p in source.parameters()]
    torch._foreach_lerp_(targets, sources, 1.0 - decay)
    for old, new in zip(average.buffers(), source.buffers(), strict=True):
        old.copy_(new)


def warm_decay(decay: float, step: int) -> float:
    """Decay at step `step` (0-based): rises from 0.1, so that early averages forget the start."""
    return min(decay, (1 + step) / (10 + step))
