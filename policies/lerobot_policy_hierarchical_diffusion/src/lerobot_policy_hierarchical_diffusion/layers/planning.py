# SPDX-License-Identifier: Apache-2.0
"""Planning layer: where in the task are we, and where do we want to be next?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerobot_ext.nn.blocks import TransformerBlock

from ..targets import Phase, future_velocities, masked_mean, motion_phase, next_keyframe
from .base import HierarchyLayer, LayerContext, LayerInputs, LayerOutput, draft_of


class PlanningLayer(HierarchyLayer):
    """A transformer over a strided memory, the task text and what the manipulation layer has seen.

    What it knows (the task's text, what was done before) the manipulation layer does not, so it also shifts
    that layer's draft, where denoising starts.

    Loss: smooth L1 of the subgoal (state and environment at the next keyframe), squared error of the
    episode's progress, cross-entropy of the phase of the motion, and L1 of the shifted draft.

    Args:
        memory_steps (`int`): Length M of the memory.
        observation_dim (`int`): Width S + E of a frame in the memory.
        seen_dim (`int`): Width of the manipulation layer's features, 0 without that layer.
        dim (`int`): Token width; the task embedding must have it too.
        depth (`int`): Transformer blocks.
        heads (`int`): Attention heads.
        dropout (`float`): Dropout.
        draft_shape (`tuple[int, int]`): (H, A) of a draft.
    """

    def __init__(
        self,
        memory_steps: int,
        observation_dim: int,
        seen_dim: int,
        dim: int,
        depth: int,
        heads: int,
        dropout: float,
        draft_shape: tuple[int, int],
    ) -> None:
        super().__init__(dim)
        self.frame = nn.Linear(observation_dim, dim)
        self.time = nn.Parameter(torch.randn(memory_steps, dim) * 0.02)
        self.seen = nn.Linear(seen_dim, dim) if seen_dim else None
        self.unseen = nn.Parameter(torch.randn(dim) * 0.02) if seen_dim else None
        self.readout = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.subgoal = nn.Linear(dim, observation_dim)
        self.progress = nn.Linear(dim, 1)
        self.phase = nn.Linear(dim, len(Phase))
        self.draft_shape = draft_shape
        self.shift = None
        if seen_dim:
            self.shift = nn.Linear(dim, draft_shape[0] * draft_shape[1])
            nn.init.zeros_(self.shift.weight)  # at first the draft is the manipulation layer's own
            nn.init.zeros_(self.shift.bias)

    def forward(self, inputs: LayerInputs, context: LayerContext) -> LayerOutput:
        """Return features, the loss, `subgoal` (B, S + E), `progress` (B,) in [0, 1] and `phase` (B,).

        Beside a manipulation layer also `draft_shift` (B, H, A).
        """
        memory = inputs.memory
        tokens = [
            self.readout.expand(len(memory), -1, -1),
            inputs.task[:, None],
            self.frame(memory) + self.time,
        ]
        if self.seen is not None:
            tokens.append(self._seen_token(len(memory), context))
        hidden = torch.cat(tokens, dim=1)
        for block in self.blocks:
            hidden = block(hidden)
        features: Tensor = self.norm(hidden[:, 0])

        now = inputs.observation[:, -1]
        subgoal = now + self.subgoal(features)
        progress_logit = self.progress(features)[:, 0]
        phase_logits = self.phase(features)
        info = {"subgoal": subgoal, "progress": progress_logit.sigmoid(), "phase": phase_logits.argmax(-1)}
        if self.shift is not None:
            info["draft_shift"] = self.shift(features).view(-1, *self.draft_shape)
        if context.targets is None:
            return LayerOutput(features, None, info)

        wanted = self._next_subgoal(now, context)
        loss = F.smooth_l1_loss(subgoal, wanted, reduction="none").mean(-1)
        loss = loss + 0.1 * F.cross_entropy(
            phase_logits, self._phase_labels(inputs, context), reduction="none"
        )
        if context.targets.progress is None:
            loss = loss + 0.0 * progress_logit  # keeps every parameter in the graph for distributed training
        else:
            loss = loss + (info["progress"] - context.targets.progress).square()
        draft = draft_of({name: output.info for name, output in context.outputs.items()} | {"planning": info})
        if draft is not None:
            missed = (draft - context.targets.actions).abs()
            loss = loss + masked_mean(missed, context.targets.actions_valid)
        return LayerOutput(features, loss, info)

    @staticmethod
    def _next_subgoal(now: Tensor, context: LayerContext) -> Tensor:
        """State and environment (B, S + E) at the next keyframe."""
        targets = context.targets
        assert targets is not None
        width = targets.future.shape[-1]
        velocity = future_velocities(now[:, :width], targets.ahead[..., :width])
        where = next_keyframe(velocity, context.motion.typical_speed())
        return targets.ahead[torch.arange(len(where), device=where.device), where]

    def _seen_token(self, batch: int, context: LayerContext) -> Tensor:
        """What the manipulation layer has seen, (B, 1, D), or its null where that layer is left out."""
        assert self.seen is not None
        assert self.unseen is not None
        unseen = self.unseen.expand(batch, -1)
        found = context.features_of("manipulation")
        if found is None:
            return unseen[:, None]
        features, kept = found
        # Planning does not shape what manipulation sees: each layer answers for its own loss.
        token: Tensor = kept * self.seen(features.detach()) + (1 - kept) * unseen
        return token[:, None]

    def _phase_labels(self, inputs: LayerInputs, context: LayerContext) -> Tensor:
        targets = context.targets
        assert targets is not None
        past = inputs.history.diff(dim=1).norm(dim=-1).mean(1)
        ahead = targets.velocity.norm(dim=-1).mean(1)
        return motion_phase(past, ahead, context.motion.typical_speed())
