# SPDX-License-Identifier: Apache-2.0
"""What becomes of a planned chunk before it is executed: limits that hold by construction, and the hold.

Deterministic and without weights: nothing here is learned but the numbers, which are quantiles of the
demonstrations. In order:

1. an action may differ from the one before it by no more than `margin` times the largest usual change, and
   the first one from the position by no more than `margin` times the largest usual lead (where actions are
   positions of the joints);
2. an action stays within the range of the demonstrations plus `limit_margin`;
3. a robot whose emergency score exceeds the threshold holds its position.

The threshold is the split-conformal quantile of the scores of held-out, clean frames (Vovk et al., 2005;
Angelopoulos & Bates, 2021, https://arxiv.org/abs/2107.07511): of frames like those, no more than `alpha` are
flagged. Frames of an episode are not exchangeable, so for new episodes that is an aim, not a guarantee.

Legend: `B` batch, `H` chunk length, `A` action width, `S` state width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .statistics import NormalizedLimits, StreamingQuantile

_HELD_OUT = 4096
"""Newest held-out scores that the threshold is taken from."""


class SafetyFilter(nn.Module):
    """Bounds chunks, and holds robots in an emergency.

    Args:
        action_dim (`int`): Action width A.
        state_dim (`int`): State width S; actions are taken for positions of the joints where it equals A.
        quantile (`float`): Share of the demonstrations' changes and leads that count as usual.
        margin (`float`): How far beyond the usual an action may go, as a factor of at least 1; 0 bounds
            neither changes nor leads.
        alpha (`float`): Share of clean frames that may be flagged as emergencies; 0 never holds.
    """

    threshold: Tensor

    def __init__(
        self, action_dim: int, state_dim: int, *, quantile: float, margin: float, alpha: float
    ) -> None:
        super().__init__()
        self.positions = action_dim == state_dim
        self.margin = margin
        self.alpha = alpha
        self.change = StreamingQuantile(action_dim, quantile)
        self.lead = StreamingQuantile(action_dim, quantile)
        self.register_buffer("threshold", torch.tensor(torch.inf))
        self._held_out: list[float] = []

    @property
    def armed(self) -> bool:
        """Whether there is a threshold, so that a score can be an emergency."""
        return bool(self.threshold.isfinite())

    def observe(self, actions: Tensor, valid: Tensor, hold: Tensor | None) -> None:
        """Take in a batch of demonstrated chunks.

        Args:
            actions (`Tensor`): (B, H, A).
            valid (`Tensor`): (B, H) bool.
            hold (`Tensor`, *optional*): (B, A) the action that holds the position; None without positions.
        """
        self.change.observe(actions.diff(dim=1).abs(), valid[:, 1:])
        if hold is not None:
            self.lead.observe((actions[:, :1] - hold[:, None]).abs(), valid[:, :1])

    def observe_held_out(self, scores: Tensor) -> None:
        """Take in the emergency scores (B,) of clean frames that were not trained on; moves the threshold."""
        self._held_out = [*self._held_out, *scores.flatten().tolist()][-_HELD_OUT:]
        self.threshold.fill_(conformal_threshold(self._held_out, self.alpha))

    def forward(
        self,
        chunk: Tensor,
        score: Tensor,
        limits: NormalizedLimits,
        position: Tensor,
        last_action: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Make a chunk safe to execute.

        Args:
            chunk (`Tensor`): (B, H, A) as sampled.
            score (`Tensor`): (B,) emergency scores.
            limits (`NormalizedLimits`): Range of the demonstrations.
            position (`Tensor`): (B, S) newest state.
            last_action (`Tensor`, *optional*): (B, A) executed last; None at the start of an episode.

        Returns:
            `tuple[Tensor, Tensor]`: The chunk (B, H, A), and which robots hold (B,), bool.
        """
        hold = hold_action(position, limits) if self.positions else last_action
        start, first_bound = last_action, self._bound(self.change)
        if start is None and self.positions:
            start, first_bound = hold, self._bound(self.lead)
        bounded = self._bound_changes(chunk, start, first_bound)
        bounded = torch.maximum(torch.minimum(bounded, limits.action_high), limits.action_low)
        emergency = score > self.threshold
        if hold is None:  # nothing is known to hold: the first action of the plan, throughout
            hold = bounded[:, 0]
        return torch.where(emergency[:, None, None], hold[:, None], bounded), emergency

    def _bound(self, usual: StreamingQuantile) -> Tensor:
        return self.margin * usual.value() if self.margin else torch.full_like(usual.value(), torch.inf)

    def _bound_changes(self, chunk: Tensor, start: Tensor | None, first_bound: Tensor) -> Tensor:
        """Each action within its bound of the one before, the first within `first_bound` of `start`."""
        bound = self._bound(self.change)
        if not (bound.isfinite().any() or first_bound.isfinite().any()):
            return chunk
        actions = []
        before, limit = start, first_bound
        for action in chunk.unbind(1):
            if before is not None:
                action = torch.maximum(torch.minimum(action, before + limit), before - limit)
            actions.append(action)
            before, limit = action, bound
        return torch.stack(actions, dim=1)


def hold_action(position: Tensor, limits: NormalizedLimits) -> Tensor:
    """The action (B, A) that asks for the present position (B, S), for position control."""
    # A joint that never moved in the data may have no scale; where it is, is where it stays.
    scale = torch.where(limits.target_scale.abs() > 1e-6, limits.target_scale, 1.0)
    return (position - limits.target_offset) / scale


def conformal_threshold(scores: list[float], alpha: float) -> float:
    """The score that no more than `alpha` of clean frames exceed.

    Args:
        scores (`list[float]`): Of held-out clean frames, n of them.
        alpha (`float`): Share that may be flagged.

    Returns:
        The ⌈(n + 1)(1 - alpha)⌉-th smallest score; infinite if there are too few of them for `alpha`.
    """
    rank = math.ceil((len(scores) + 1) * (1 - alpha))
    return sorted(scores)[rank - 1] if 0 < rank <= len(scores) else math.inf
