# SPDX-License-Identifier: Apache-2.0
"""Small residual blocks: FiLM-modulated MLP and pre-norm transformer.

Legend: `B` batch, `N` tokens, `D` width, `C` width of the condition.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FiLM(nn.Module):
    """Scale and shift features by a function of a condition (FiLM, Perez et al., 2017).

    The modulation starts as the identity on the scale side (the linear map predicts `scale - 1`), so a fresh
    block passes its features through.

    Args:
        dim (`int`): Width of the features.
        condition_dim (`int`): Width of the condition.
    """

    def __init__(self, dim: int, condition_dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(condition_dim, 2 * dim)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Modulate `features` (B, D) by `condition` (B, C); returns (B, D)."""
        scale, shift = self.projection(condition).chunk(2, dim=-1)
        return torch.addcmul(shift, features, 1 + scale)


class FiLMResidualBlock(nn.Module):
    """Residual MLP block whose normalised input is modulated by a condition.

    Args:
        dim (`int`): Width of the residual stream.
        condition_dim (`int`): Width of the condition.
        expansion (`int`, *optional*, defaults to `2`): Hidden width as a multiple of `dim`.
    """

    def __init__(self, dim: int, condition_dim: int, expansion: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)  # FiLM supplies the affine part
        self.film = FiLM(dim, condition_dim)
        self.up = nn.Linear(dim, expansion * dim)
        self.down = nn.Linear(expansion * dim, dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Add one modulated MLP step to `x` (B, D) under `condition` (B, C); returns (B, D)."""
        hidden = self.film(self.norm(x), condition)
        updated: Tensor = x + self.down(F.gelu(self.up(hidden)))
        return updated


class TransformerBlock(nn.Module):
    """Pre-norm self-attention block on scaled-dot-product attention.

    Args:
        dim (`int`): Token width.
        heads (`int`): Attention heads; must divide `dim`.
        expansion (`int`, *optional*, defaults to `4`): Hidden width of the MLP as a multiple of `dim`.
        dropout (`float`, *optional*, defaults to `0.0`): Dropout of both residual branches while training.

    Raises:
        ValueError: If `heads` does not divide `dim`.
    """

    def __init__(self, dim: int, heads: int, expansion: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"`heads` ({heads}) must divide `dim` ({dim}); choose a multiple.")
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, expansion * dim)
        self.down = nn.Linear(expansion * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Let `tokens` (B, N, D) attend to each other; returns (B, N, D)."""
        batch, count, dim = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).view(batch, count, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, D / heads)
        attended = F.scaled_dot_product_attention(query, key, value)
        attended = attended.transpose(1, 2).reshape(batch, count, dim)
        tokens = tokens + self.dropout(self.out(attended))
        updated: Tensor = tokens + self.dropout(self.down(F.gelu(self.up(self.norm2(tokens)))))
        return updated
