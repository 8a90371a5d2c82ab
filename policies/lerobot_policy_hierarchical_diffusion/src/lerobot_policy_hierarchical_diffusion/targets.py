# SPDX-License-Identifier: Apache-2.0
"""Self-supervised targets of the layers, as pure functions of a batch.

Legend: `B` batch, `H` chunk length, `K` future steps, `N` history steps, `S` state width, `A` action width.
All states and actions are normalised. Masks are True where data is real and False where it is padding.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import torch
from lerobot.utils.constants import ACTION
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


def demonstrated_chunk(batch: dict[str, Any], horizon: int) -> tuple[Tensor, Tensor]:
    """The demonstrated chunk (B, H, A) of a training batch and where it is not padding (B, H).

    What a batch has before the chunk is the last action.
    """
    actions = batch[ACTION][:, -horizon:]
    padded = batch.get(f"{ACTION}_is_pad")
    if padded is None:
        return actions, torch.ones(actions.shape[:2], dtype=torch.bool, device=actions.device)
    return actions, ~padded[:, -horizon:]


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


def injected_violations(
    history: Tensor,
    low: Tensor,
    high: Tensor,
    velocity_limit: Tensor,
    command: Tensor,
    tracking_limit: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Corrupt every sample in one joint, so that the safety layer has positives to learn from.

    Of three kinds, chosen by lot: the joint drifts to a position outside the limits; it jumps by 1.5 to 4
    times the velocity limit in the last frame; it is 1.5 to 4 times the tracking limit away from where the
    last action asked it to be. Samples whose last action is unknown get one of the first two.

    Args:
        history (`Tensor`): (B, N, S) states, oldest first.
        low (`Tensor`): (S,) lower joint limits.
        high (`Tensor`): (S,) upper joint limits.
        velocity_limit (`Tensor`): (S,) largest usual |velocity|.
        command (`Tensor`): (B, A + 1) `LayerInputs.command`.
        tracking_limit (`Tensor`, *optional*): (S,) largest usual distance from the commanded position, in the
            command's unit; None where actions are no positions, which leaves out the third kind.

    Returns:
        `tuple[Tensor, Tensor]`: (B, N, S) and (B, A + 1), corrupted copies.
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

    kind = torch.rand(batch, 1, device=device)
    astray = kind[:, 0] > 2 / 3 if tracking_limit is not None else torch.zeros_like(upward)
    astray = astray & (command[:, -1] > 0)
    moved = torch.where((kind < 1 / 3) | ((kind > 2 / 3) & (kind < 5 / 6)), drift, spike)
    corrupted = history.clone()
    corrupted[rows, :, joint] += moved * ~astray[:, None]
    commanded = command.clone()
    if tracking_limit is not None:
        distance = (1.5 + 2.5 * amount) * tracking_limit[joint] * torch.where(upward, 1.0, -1.0).to(dtype)
        commanded[rows, joint] += distance * astray
    return corrupted, commanded


def next_keyframe(velocity: Tensor, typical_speed: Tensor) -> Tensor:
    """Where the motion that is under way, or comes next, ends: the next minimum of the speed.

    A keyframe is the first frame that is slow after a fast one: the hand has arrived, at a grasp, a release
    or a turning point. Without one, the last frame ahead is taken. Keyframes as subgoals: James & Davison,
    2022, https://arxiv.org/abs/2105.14829, who find them by the same rule.

    Args:
        velocity (`Tensor`): (B, T, S) state change into each of the frames ahead.
        typical_speed (`Tensor`): () mean speed over the data; half of it separates slow from fast.

    Returns:
        `Tensor`: (B,) long, index among the frames ahead.
    """
    fast = velocity.norm(dim=-1) > 0.5 * typical_speed  # (B, T)
    arrived = ~fast
    arrived[:, 1:] &= fast[:, :-1]
    arrived[:, 0] = False  # what is slow already has not arrived but rests
    arrived[:, -1] |= ~arrived.any(1)
    first: Tensor = arrived.int().argmax(1)
    return first


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
