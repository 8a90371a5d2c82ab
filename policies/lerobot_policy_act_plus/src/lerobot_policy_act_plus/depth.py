# SPDX-License-Identifier: Apache-2.0
"""Depth cameras: as two more channels of a colour camera, or as patches the colour patches attend to.

A depth map says 0 where nothing was measured. Both ways get a mask of what was as a second channel, and see 0
where it says no. Both start as if there were no depth: the weights that let it in are zero at first.

Legend: `B` batch, `N` colour patches, `M` depth patches, `D` width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def widened(weight: Tensor) -> Tensor:
    """A first weight (K, 3, h, w) for colour, depth and mask, (K, 5, h, w); the new channels are zero."""
    return torch.cat([weight, torch.zeros_like(weight[:, :2])], dim=1)


def for_depth(weight: Tensor) -> Tensor:
    """A first weight (K, 2, h, w): the mean of the colours' for depth, zero for the mask."""
    mean = weight.mean(dim=1, keepdim=True)
    return torch.cat([mean, torch.zeros_like(mean)], dim=1)


def with_depth(colour: Tensor, depth: Tensor) -> Tensor:
    """(B, 5, H, W): a colour image (B, 3, H, W) with a masked depth map (B, 2, h, w) in its size."""
    if depth.shape[-2:] != colour.shape[-2:]:
        depth = F.interpolate(depth, colour.shape[-2:], mode="nearest")
    return torch.cat([colour, depth], dim=1)


class DepthAttention(nn.Module):
    """Add to each colour patch what it finds in the depth patches.

    Args:
        dim (`int`): Width D.
        heads (`int`): Attention heads.
        dropout (`float`): Dropout of the attention.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout)
        nn.init.zeros_(self.attention.out_proj.weight)
        nn.init.zeros_(self.attention.out_proj.bias)

    def forward(self, colour: Tensor, colour_pos: Tensor, depth: Tensor, depth_pos: Tensor) -> Tensor:
        """Attend.

        Args:
            colour (`Tensor`): (N, B, D) patches.
            colour_pos (`Tensor`): (N, 1, D) their places.
            depth (`Tensor`): (M, B, D) patches.
            depth_pos (`Tensor`): (M, 1, D) their places.

        Returns:
            `Tensor`: (N, B, D).
        """
        found: Tensor = self.attention(colour + colour_pos, depth + depth_pos, value=depth)[0]
        return colour + found
