# SPDX-License-Identifier: Apache-2.0
"""What the policy reads of a batch and of a dataset's metadata, whatever their form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lerobot.utils.constants import ACTION
from torch import Tensor


def known_action(action: Tensor | None) -> Tensor | None:
    """`Observation.last_action` of an action (B, A) that was executed."""
    return None if action is None else torch.cat([action, torch.ones_like(action[:, :1])], dim=-1)


def last_action_of(batch: dict[str, Any], horizon: int) -> Tensor | None:
    """`Observation.last_action` of a training batch, whose chunk begins with it."""
    actions = batch.get(ACTION)
    if actions is None or actions.ndim != 3 or actions.shape[1] != horizon + 1:
        return None
    padded = batch.get(f"{ACTION}_is_pad")
    known = torch.ones_like(actions[:, 0, :1]) if padded is None else (~padded[:, :1]).to(actions.dtype)
    return torch.cat([actions[:, 0] * known, known], dim=-1)


def episode_bounds(dataset_meta: Any | None) -> tuple[Tensor, Tensor] | None:
    """First frame and one past the last frame of each episode, (E,) each."""
    if dataset_meta is None:
        return None
    episodes = dataset_meta.episodes
    bounds: Iterable[str] = ("dataset_from_index", "dataset_to_index")
    starts, ends = (torch.as_tensor(episodes[name], dtype=torch.long) for name in bounds)
    return starts, ends


def with_time(values: Tensor, frames: int) -> Tensor:
    """Repeat a single observation (B, D) over `frames`; leave (B, W, D) as it is."""
    return values if values.ndim == 3 else values[:, None].expand(-1, frames, -1)


def tasks_of(batch: dict[str, Any], size: int) -> list[str | None]:
    """Task texts of a batch: a list, one string for all, or nothing."""
    tasks = batch.get("task")
    if tasks is None or isinstance(tasks, str):
        return [tasks] * size
    return list(tasks)
