# SPDX-License-Identifier: Apache-2.0
"""Manipulation layer: what should the arm do, as seen now?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lerobot_ext.nn.blocks import TransformerBlock

from ..targets import masked_mean
from .base import HierarchyLayer, LayerContext, LayerInputs, LayerOutput, small_encoder


class ManipulationLayer(HierarchyLayer):
    """A transformer over observation tokens and all cameras' patches that drafts a chunk of actions.

    Two short paths keep the precision that attention over patches and normalised features lose: from the
    cameras' keypoints to the readout, and, linear, from the newest frame to the draft: most actions are the
    present joint positions plus a little.

    Loss: L1 of the draft, as in ACT. At inference the draft is where denoising starts.

    Args:
        observation_steps (`int`): Observation frames O.
        observation_dim (`int`): Width S + E of an observation frame.
        image_dim (`int`): Width of one frame's pooled cameras, 0 without cameras.
        horizon (`int`): Chunk length H.
        action_dim (`int`): Action width A.
        dim (`int`): Token width; image tokens must have it too.
        depth (`int`): Transformer blocks.
        heads (`int`): Attention heads.
        dropout (`float`): Dropout.
    """

    def __init__(
        self,
        observation_steps: int,
        observation_dim: int,
        image_dim: int,
        horizon: int,
        action_dim: int,
        dim: int,
        depth: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__(dim)
        self.horizon = horizon
        self.observation = small_encoder(observation_dim, dim)
        self.glance = nn.Linear(observation_steps * image_dim, dim) if image_dim else None
        self.step = nn.Parameter(torch.randn(observation_steps, dim) * 0.02)
        self.readout = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.draft = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, horizon * action_dim)
        )
        self.shortcut = nn.Linear(observation_dim, horizon * action_dim)

    def forward(self, inputs: LayerInputs, context: LayerContext) -> LayerOutput:
        """Return features, the loss, and `draft` (B, H, A)."""
        observed = self.observation(inputs.observation) + self.step  # (B, O, D)
        readout = self.readout + observed[:, -1:]
        if self.glance is not None and inputs.image_pooled is not None:
            readout = readout + self.glance(inputs.image_pooled.flatten(1))[:, None]
        tokens = [readout, observed]
        if inputs.image_tokens is not None:
            tokens.append(inputs.image_tokens)
        hidden = torch.cat(tokens, dim=1)
        for block in self.blocks:
            hidden = block(hidden)
        features: Tensor = self.norm(hidden[:, 0])
        flat: Tensor = self.draft(features) + self.shortcut(inputs.observation[:, -1])
        draft = flat.view(len(features), self.horizon, -1)
        if context.targets is None:
            return LayerOutput(features, None, {"draft": draft})
        loss = masked_mean((draft - context.targets.actions).abs(), context.targets.actions_valid)
        return LayerOutput(features, loss, {"draft": draft})
