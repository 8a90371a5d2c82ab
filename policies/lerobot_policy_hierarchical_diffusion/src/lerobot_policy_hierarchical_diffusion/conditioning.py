# SPDX-License-Identifier: Apache-2.0
"""Fuse the layers' features into one condition, with a learned stand-in for each layer that is left out.

    fused = Σ_l  m_l · W_l LayerNorm(h_l)  +  (1 - m_l) · ∅_l

Masks are nested in training (safety ⊂ + dynamics ⊂ + manipulation ⊂ + planning), after "Matryoshka" style
prefix dropout, or miss one layer. Legend: `B` batch, `L` layers, `D` width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def sample_layer_mask(batch: int, layers: int, dropout: float, device: torch.device) -> Tensor:
    """Draw which layers each training sample keeps.

    Args:
        batch (`int`): Number of samples.
        layers (`int`): Number of layers L.
        dropout (`float`): Chance that a sample misses layers: half the time it keeps only a proper prefix,
            whose length is uniform in [0, L), half the time it misses one layer, uniformly.
        device (`torch.device`): Device of the mask.

    Returns:
        `Tensor`: (B, L) float, each row ones but for a tail, or one place, of zeros.
    """
    if layers == 0:
        return torch.ones(batch, 0, device=device)
    lot = torch.rand(batch, 1, device=device)
    which = torch.randint(layers, (batch, 1), device=device)
    number = torch.arange(layers, device=device)
    misses_one = (lot < dropout / 2) & (number == which)
    shortened = (lot >= dropout / 2) & (lot < dropout) & (number >= which)
    return (~(misses_one | shortened)).float()


def sample_taking_part(batch: int, part: Tensor) -> Tensor:
    """Draw which layers each sample sees while a curriculum fades some of them in or out.

    Args:
        batch (`int`): Number of samples.
        part (`Tensor`): (L,) chance of each layer, in [0, 1].

    Returns:
        `Tensor`: (B, L) float, 0 or 1.
    """
    return (torch.rand(batch, len(part), device=part.device) < part).float()


class LayerFusion(nn.Module):
    """Weighted sum of projected layer features with a learned null for each absent layer.

    Args:
        dims (`Mapping[str, int]`): Feature width of each layer, in order.
        condition_dim (`int`): Width of the fused condition.
    """

    def __init__(self, dims: Mapping[str, int], condition_dim: int) -> None:
        super().__init__()
        self.names = tuple(dims)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name, dim in dims.items()})
        self.projections = nn.ModuleDict({name: nn.Linear(dim, condition_dim) for name, dim in dims.items()})
        self.nulls = nn.Parameter(torch.randn(len(dims), condition_dim) * 0.02)

    def forward(self, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Fuse features.

        Args:
            features (`Mapping[str, Tensor]`): (B, D_l) features by layer; a layer that did not run is absent.
            mask (`Tensor`): (B, L) 1 to use a layer's features, 0 to use its null; must be 0 for absent
                layers.

        Returns:
            `Tensor`: (B, condition_dim).
        """
        fused = (1 - mask) @ self.nulls
        for i, name in enumerate(self.names):
            if name in features:
                fused = fused + mask[:, i, None] * self.projections[name](self.norms[name](features[name]))
        return fused
