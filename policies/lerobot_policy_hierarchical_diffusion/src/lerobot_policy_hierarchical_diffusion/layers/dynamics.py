# SPDX-License-Identifier: Apache-2.0
"""Dynamics layer: where is the body going?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..targets import masked_mean
from .base import HierarchyLayer, LayerContext, LayerInputs, LayerOutput, with_velocity


class DynamicsLayer(HierarchyLayer):
    """A GRU with attention over recent states that foresees the next K states.

    Loss: smooth L1 of the K next states (as changes from now, in units of the usual velocity) plus that of
    the one-step forecasts inside the history. The last of those forecasts against the state that came is the
    anomaly score. Where the data tell contacts (of feet, or of a gripper), the cross-entropy of theirs in the
    next K frames is added.

    Args:
        state_dim (`int`): State width S.
        future_steps (`int`): Number of foreseen states K.
        dim (`int`): Width of GRU, attention and features.
        contacts (`int`, *optional*, defaults to `0`): Number of contacts N that the data tell.
    """

    def __init__(self, state_dim: int, future_steps: int, dim: int, contacts: int = 0) -> None:
        super().__init__(dim)
        self.future_steps = future_steps
        self.gru = nn.GRU(2 * state_dim, dim, batch_first=True)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.next_state = nn.Linear(dim, state_dim)
        self.forecast = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, future_steps * state_dim)
        )
        self.contact = nn.Linear(dim, future_steps * contacts) if contacts else None

    def forward(self, inputs: LayerInputs, context: LayerContext) -> LayerOutput:
        """Return features, the loss, `anomaly` (B,) in usual velocities, and `forecast` (B, K, S).

        With contacts also `contact` (B, K, N), the probability of each.
        """
        scale = context.motion.velocity_scale()
        history = inputs.motion
        hidden: Tensor = self.gru(with_velocity(history, scale))[0]  # (B, N, D)
        features = self._attend(hidden)

        surprise = self._one_step_errors(hidden, history, scale)
        changes: Tensor = self.forecast(features).view(
            len(history), self.future_steps, -1
        )  # (B, K, S), in `scale`
        steps = torch.arange(1, self.future_steps + 1, device=history.device, dtype=history.dtype)[:, None]
        forecast = history[:, -1:] + changes * scale * steps  # a change grows with the time ahead
        info = {"anomaly": surprise[:, -1].mean(-1), "forecast": forecast}
        contact = None
        if self.contact is not None:
            contact = self.contact(features).view(len(history), self.future_steps, -1)  # (B, K, N)
            info["contact"] = contact.sigmoid()
        if context.targets is None:
            return LayerOutput(features, None, info)

        wanted = (context.targets.future - history[:, -1:]) / (scale * steps)
        error = F.smooth_l1_loss(changes, wanted, reduction="none")
        loss = masked_mean(error, context.targets.future_valid) + surprise.flatten(1).mean(1)
        if contact is not None and context.targets.contact is not None:
            missed = F.binary_cross_entropy_with_logits(contact, context.targets.contact, reduction="none")
            loss = loss + masked_mean(missed, context.targets.future_valid)
        return LayerOutput(features, loss, info)

    def _attend(self, hidden: Tensor) -> Tensor:
        """Attend from the newest step to all of them; the newest one itself is added."""
        scores = (self.key(hidden) @ self.query(hidden[:, -1])[..., None])[..., 0] / hidden.shape[
            -1
        ] ** 0.5  # (B, N)
        pooled = (scores.softmax(-1)[..., None] * hidden).sum(1)
        features: Tensor = hidden[:, -1] + pooled
        return features

    def _one_step_errors(self, hidden: Tensor, history: Tensor, scale: Tensor) -> Tensor:
        """Errors (B, N - 1, S) of foreseeing each state of the history from those before it."""
        predicted: Tensor = self.next_state(hidden[:, :-1])
        return F.smooth_l1_loss(predicted, history.diff(dim=1) / scale, reduction="none")
