# SPDX-License-Identifier: Apache-2.0
"""Self-supervised targets of the layers, as pure functions of a batch.

Legend: `B` batch, `H` chunk length, `K` future steps, `N` history steps, `S` state width, `A` action width.
All states and actions are normalised. Masks are True where data is real and False where it is padding.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor


class Phase(IntEnum):
    """Segment of a motion between speed minima, told by the speed before and after now."""

    DWELL = 0
    """slow, and stays slow"""
    DEPART = 1
    """slow, then fast"""
    ARRIVE = 2
    """fast, then slow"""
    TRANSIT = 3
    """fast, and stays fast"""


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each sample's valid elements; 0 for a sample without any.

    Args:
        values (`Tensor`): (B, T, D) or (B, T).
        mask (`Tensor`): (B, T) bool.

    Returns:
        `Tensor`: (B,).
    """
    weights = mask.to(values.dtype)
    per_step = values.flatten(2).mean(-1) if values.ndim > 2 else values
    return (per_step * weights).sum(1) / weights.sum(1).clamp_min(1.0)


def future_velocities(state: Tensor, future: Tensor) -> Tensor:
    """State change a frame, from now into the future.

    Args:
        state (`Tensor`): (B, S) current state.
        future (`Tensor`): (B, K, S) the next states.

    Returns:
        `Tensor`: (B, K, S).
    """
    return torch.diff(torch.cat([state[:, None], future], dim=1), dim=1)


def tracking_errors(actions: Tensor, future: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """How far each state is from where the action before it asked it to be, |a_t - q_{t+1}|.

    Args:
        actions (`Tensor`): (B, H, S) position targets in the normalised action space.
        future (`Tensor`): (B, K, S) the states after each of them.
        scale (`Tensor`): (S,) slope from the normalised action to the normalised state of the same position.
        offset (`Tensor`): (S,) intercept of that map.

    Returns:
        `Tensor`: (B, min(H, K), S).
    """
    steps = min(actions.shape[1], future.shape[1])
    wanted = actions[:, :steps] * scale + offset
    return (wanted - future[:, :steps]).abs()


def violation_labels(
    future: Tensor,
    velocity: Tensor,
    valid: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    velocity_limit: Tensor,
    tracking: Tensor | None = None,
    tracking_limit: Tensor | None = None,
) -> Tensor:
    """Say for each sample whether anything unsafe happens in the next K frames.

    Unsafe is: a joint outside its limits, a joint faster than its limit, or (for position control) a joint
    further from its target than usual.

    Args:
        future (`Tensor`): (B, K, S) future states.
        velocity (`Tensor`): (B, K, S) from `future_velocities`.
        valid (`Tensor`): (B, K) bool.
        low (`Tensor`): (S,) lower joint limits.
        high (`Tensor`): (S,) upper joint limits.
        velocity_limit (`Tensor`): (S,) largest usual |velocity|.
        tracking (`Tensor`, *optional*): (B, T <= K, S) from `tracking_errors`.
        tracking_limit (`Tensor`, *optional*): (S,) largest usual tracking error.

    Returns:
        `Tensor`: (B,) float, 1 where something unsafe happens.
    """
    unsafe = ((future < low) | (future > high) | (velocity.abs() > velocity_limit)).any(-1)  # (B, K)
    if tracking is not None and tracking_limit is not None:
        late = (tracking > tracking_limit).any(-1)
        unsafe[:, : late.shape[1]] |= late
    return (unsafe & valid).any(1).to(future.dtype)


def injected_violations(history: Tensor, low: Tensor, high: Tensor, velocity_limit: Tensor) -> Tensor:
    """Corrupt every history in one joint, so that the safety layer has positives to learn from.

    Half of the samples drift to a joint position outside the limits, the others jump by 1.5 to 4 times the
    velocity limit in the last frame.

    Args:
        history (`Tensor`): (B, N, S) states, oldest first.
        low (`Tensor`): (S,) lower joint limits.
        high (`Tensor`): (S,) upper joint limits.
        velocity_limit (`Tensor`): (S,) largest usual |velocity|.

    Returns:
        `Tensor`: (B, N, S) corrupted copy.
    """
    batch, steps, width = history.shape
    device, dtype = history.device, history.dtype
    joint = torch.randint(width, (batch,), device=device)
    rows = torch.arange(batch, device=device)
    upward = torch.rand(batch, device=device) < 0.5
    amount = torch.rand(batch, device=device, dtype=dtype)

    span = (high - low)[joint]
    beyond = torch.where(upward, high[joint] + 0.25 * amount * span, low[joint] - 0.25 * amount * span)
    ramp = torch.linspace(0, 1, steps, device=device, dtype=dtype)
    drift = ramp * (beyond - history[rows, -1, joint])[:, None]  # (B, N)

    jump = (1.5 + 2.5 * amount) * velocity_limit[joint] * torch.where(upward, 1.0, -1.0).to(dtype)
    spike = torch.zeros_like(drift)
    spike[:, -1] = jump

    drifts = torch.rand(batch, 1, device=device) < 0.5
    corrupted = history.clone()
    corrupted[rows, :, joint] += torch.where(drifts, drift, spike)
    return corrupted


def motion_phase(past_speed: Tensor, future_speed: Tensor, typical_speed: Tensor) -> Tensor:
    """Segment the motion at its speed minima, without labels.

    Args:
        past_speed (`Tensor`): (B,) mean speed up to now.
        future_speed (`Tensor`): (B,) mean speed from now on.
        typical_speed (`Tensor`): () mean speed over the data; half of it separates slow from fast.

    Returns:
        `Tensor`: (B,) long, values of `Phase`.
    """
    threshold = 0.5 * typical_speed
    was_fast = (past_speed > threshold).long()
    gets_fast = (future_speed > threshold).long()
    return 2 * was_fast + gets_fast


def episode_progress(index: Tensor, episode: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Share of the episode that lies behind each frame.

    Args:
        index (`Tensor`): (B,) absolute frame index in the dataset.
        episode (`Tensor`): (B,) episode index.
        starts (`Tensor`): (E,) first frame of each episode.
        ends (`Tensor`): (E,) one past the last frame of each episode.

    Returns:
        `Tensor`: (B,) float in [0, 1].
    """
    start, end = starts[episode], ends[episode]
    return ((index - start) / (end - start - 1).clamp_min(1)).clamp(0.0, 1.0).float()
