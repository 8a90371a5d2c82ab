# SPDX-License-Identifier: Apache-2.0
"""Fuse the layers' features into one condition, with a learned stand-in for each layer that is left out.

    fused = Σ_l  m_l · W_l LayerNorm(h_l)  +  (1 - m_l) · ∅_l

What a layer gives besides, to be heard precisely, stands beside it: m_l · p_l + (1 - m_l) · ∅'_l.

Masks are nested in training (safety ⊂ + dynamics ⊂ + manipulation ⊂ + planning), after "Matryoshka" style
prefix dropout, or miss one layer. Legend: `B` batch, `L` layers, `D` width, `C` condition width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .layers.base import LayerOutput

ALWAYS_MISSED = 0.25
"""How often a layer that always runs is missed, against the others: only for its null to be learned. Without
the posture the loss is ten times as large, and a few such samples would take most of the gradient."""


def sample_layer_mask(
    batch: int, layers: int, dropout: float, device: torch.device, *, first_always: bool = False
) -> Tensor:
    """Draw which layers each training sample keeps.

    Args:
        batch (`int`): Number of samples.
        layers (`int`): Number of layers L.
        dropout (`float`): Chance that a sample misses layers: half the time it keeps only a proper prefix,
            whose length is uniform in [0, L), half the time it misses one layer, uniformly.
        device (`torch.device`): Device of the mask.
        first_always (`bool`, *optional*): The first layer always runs: no prefix is without it, and it is the
            missed one `ALWAYS_MISSED` times as often.

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
    mask = (~(misses_one | shortened)).float()
    if first_always:
        rarely = torch.rand(batch, device=device) < ALWAYS_MISSED
        mask[:, 0] = (~(misses_one[:, 0] & rarely)).float()
    return mask


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
        precise (`Mapping[str, int]`, *optional*): Width of what some layers give to be heard precisely.
    """

    def __init__(
        self, dims: Mapping[str, int], condition_dim: int, precise: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.names = tuple(dims)
        precise = precise or {}
        self.dim = condition_dim + sum(precise.values())
        self.unheard = nn.ParameterDict({name: torch.zeros(width) for name, width in precise.items()})
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name, dim in dims.items()})
        self.projections = nn.ModuleDict({name: nn.Linear(dim, condition_dim) for name, dim in dims.items()})
        self.nulls = nn.Parameter(torch.randn(len(dims), condition_dim) * 0.02)

    def forward(self, outputs: Mapping[str, LayerOutput], mask: Tensor) -> Tensor:
        """Fuse features.

        Args:
            outputs (`Mapping[str, LayerOutput]`): By layer; a layer that did not run is absent.
            mask (`Tensor`): (B, L) 1 to use a layer's features, 0 to use its null; must be 0 for absent
                layers.

        Returns:
            `Tensor`: (B, C), the precise parts before the fused one.
        """
        fused = (1 - mask) @ self.nulls
        precise = []
        for i, name in enumerate(self.names):
            kept = mask[:, i, None]
            output = outputs.get(name)
            if output is not None:
                fused = fused + kept * self.projections[name](self.norms[name](output.features))
            if name in self.unheard:
                given = None if output is None else output.precise
                unheard = (1 - kept) * self.unheard[name]
                precise.append(unheard if given is None else kept * given + unheard)
        return torch.cat([*precise, fused], dim=-1)
