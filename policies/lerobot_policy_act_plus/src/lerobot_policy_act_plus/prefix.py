# SPDX-License-Identifier: Apache-2.0
"""Tell the decoder which actions are committed, and let it plan the rest (training-time real-time chunking).

Paper: "Training-Time Action Conditioning for Efficient Real-Time Chunking" (Black et al., 2025),
https://arxiv.org/abs/2512.05964, for flow policies. Differences: it is also used with ACT's L1 head, where a
committed action enters as a decoder query instead of a clean flow state; the number of committed actions is
drawn uniformly from 0 to `prefix_steps`.

Legend: `B` batch, `T` chunk, `A` action width, `D` model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def draw_prefix(batch: int, most: int, chunk: int, device: torch.device) -> Tensor:
    """Draw which actions of each training sample are committed.

    Args:
        batch (`int`): Number of samples B.
        most (`int`): Most committed actions.
        chunk (`int`): Length T of a chunk.
        device (`torch.device`): Device of the mask.

    Returns:
        `Tensor`: (B, T) bool, True for the first 0 to `most` actions.
    """
    length = torch.randint(most + 1, (batch,), device=device)
    return torch.arange(chunk, device=device) < length[:, None]


class PrefixEmbedding(nn.Module):
    """Committed actions as decoder inputs; nothing is added at the others.

    It begins at zero, so that a policy that learned without it is unchanged by getting it.

    Args:
        action_dim (`int`): Width A of an action.
        dim (`int`): Width D of the decoder.
    """

    def __init__(self, action_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(action_dim, dim)
        self.flag = nn.Parameter(torch.zeros(dim))
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, actions: Tensor, committed: Tensor) -> Tensor:
        """Embed `actions` (B, T, A) where `committed` (B, T) says so; returns (B, T, D)."""
        embedded: Tensor = self.project(actions) + self.flag
        return embedded * committed[..., None].to(embedded.dtype)
