# SPDX-License-Identifier: Apache-2.0
"""What is left of the last chunk of actions when the next one is planned."""

from __future__ import annotations

from torch import Tensor


def left_over_actions(left_over: Tensor | None, horizon: int) -> Tensor | None:
    """The actions among what `lerobot-rollout --inference.type=rtc` hands over as left of the last chunk.

    Args:
        left_over (`Tensor`, *optional*): (T, A) or (B, T, A), the next action first. LeRobot fills it up with
            rows of zeros, which are no actions.
        horizon (`int`): Most actions of interest.

    Returns:
        `Tensor`: (B, N, A) with N in 1..horizon; None where nothing is left.
    """
    if left_over is None or left_over.numel() == 0:
        return None
    actions = left_over[None] if left_over.ndim == 2 else left_over
    actions = actions[:, :horizon]
    filled = actions.abs().sum((0, 2)) > 0
    count = int(filled.nonzero().max()) + 1 if filled.any() else 0
    return actions[:, :count] if count else None
