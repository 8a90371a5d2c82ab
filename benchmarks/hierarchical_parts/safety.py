# SPDX-License-Identifier: Apache-2.0
"""Does the safety layer see violations, and does the filter keep the arm from committing them?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from torch import Tensor

from hierarchical_parts import data, injection, policies
from hierarchical_parts.injection import KINDS, Usual
from hierarchical_parts.settings import Settings, Task
from lerobot_ext.bootstrap import Interval, auroc, statistic

NOISE = 0.5
"""Standard deviation of the noise on planned actions, where their range is 2."""
SLACK = 1e-4
"""Rounding, as a share of the range."""


# ---- detection


@torch.no_grad()
def scores(checkpoint: Path, task: Task, settings: Settings) -> dict[str, Any]:
    """Emergency scores of each held-out episode's frames, as they are and with each kind of violation."""
    policy = policies.load(checkpoint, settings.device)
    usual = usual_motion(policy, checkpoint, task, settings)
    generator = torch.Generator().manual_seed(0)
    sees_command = policy.config.action_delta_indices[0] < 0
    kinds = ["clean", *(kind for kind in KINDS if kind != "tracking" or sees_command)]
    found: dict[str, dict[int, list[float]]] = {kind: {} for kind in kinds}
    for batch in policies.held_out(policy, checkpoint, task, settings):
        for kind in kinds:
            changed = batch if kind == "clean" else with_violation(policy, batch, kind, usual, generator)
            policy.reset()
            policy.predict_action_chunk(changed, num_inference_steps=1)
            for episode, score in zip(
                batch["episode_index"].tolist(), policy.last_info["emergency_score"].tolist(), strict=True
            ):
                found[kind].setdefault(episode, []).append(round(score, 6))
    return {kind: [rows[episode] for episode in sorted(rows)] for kind, rows in found.items()}


def with_violation(
    policy: Any, batch: dict[str, Any], kind: str, usual: Usual, generator: torch.Generator
) -> dict[str, Any]:
    """A preprocessed batch with a violation in each sample."""
    state, device = batch[OBS_STATE].cpu(), batch[OBS_STATE].device
    offsets = list(policy.config.observation_delta_indices)
    if kind == "limit":
        return batch | {OBS_STATE: injection.limit(state, offsets, usual, generator).to(device)}
    if kind == "speed":
        return batch | {OBS_STATE: injection.speed(state, offsets, usual, generator).to(device)}
    scale, offset = _command_to_state(policy)
    actions, now = batch[ACTION].cpu().clone(), state[:, offsets.index(0)]
    before = policy.config.action_delta_indices.index(-1)
    changed = injection.tracking(now, actions[:, before] * scale + offset, usual, generator)
    actions[:, before] = (changed - offset) / scale
    return batch | {ACTION: actions.to(device)}


def _command_to_state(policy: Any) -> tuple[Tensor, Tensor]:
    """Slope and intercept (S,) from a normalised action to the normalised state that it asks for."""
    limits = policy._network.limits
    scale, offset = limits.target_scale.cpu(), limits.target_offset.cpu()
    return torch.where(scale.abs() > 1e-6, scale, 1.0), offset


def usual_motion(policy: Any, checkpoint: Path, task: Task, settings: Settings) -> Usual:
    """What the demonstrations do, counted here and not taken from the policy."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset(data.repo_id(task, "train"), root=data.folder(task, settings, "train"))
    names = [name for name in (OBS_STATE, OBS_ENV_STATE, ACTION) if name in dataset.features]
    columns = dataset.hf_dataset.with_format("numpy", columns=[*names, "episode_index"])[:]
    preprocess, _ = policies.processors(policy, checkpoint)
    normalised = preprocess({name: torch.from_numpy(np.stack(columns[name])) for name in names})
    state, action = normalised[OBS_STATE].cpu(), normalised[ACTION].cpu()
    scale, offset = _command_to_state(policy)
    inside = torch.from_numpy(np.diff(np.asarray(columns["episode_index"])) == 0)
    change = state.diff(dim=0).abs()[inside]
    lag = (action * scale + offset)[:-1].sub(state[1:]).abs()[inside]
    return Usual(
        low=state.amin(0),
        high=state.amax(0),
        speed=change.quantile(0.999, dim=0),
        lag=lag.quantile(0.999, dim=0),
        joints=(policy._network.limits.state_varies > 0).nonzero()[:, 0].cpu(),
    )


def areas(found: list[dict[str, Any]], repeats: int = 500) -> dict[str, Interval]:
    """AUROC of each kind of violation, and of all together, over several trainings."""
    kinds = [kind for kind in KINDS if kind in found[0]]

    def of(kind: str) -> Interval:
        chosen = kinds if kind == "all" else [kind]
        rows = [
            [
                (clean, [score for name in chosen for score in one[name][episode]])
                for episode, clean in enumerate(one["clean"])
            ]
            for one in found
        ]
        return statistic(rows, _area, repeats)

    return {kind: of(kind) for kind in (*kinds, "all")}


def _area(episodes: list[tuple[list[float], list[float]]]) -> float:
    clean = np.concatenate([np.asarray(good) for good, _ in episodes])
    return auroc(clean, np.concatenate([np.asarray(bad) for _, bad in episodes]))


def flagged(found: dict[str, Any], alpha: float = 0.01) -> dict[str, float]:
    """Share of frames above a threshold for `alpha`, which the other half of the episodes gives."""
    from lerobot_policy_hierarchical_diffusion.safety_filter import conformal_threshold

    threshold = conformal_threshold([score for episode in found["clean"][::2] for score in episode], alpha)
    return {
        kind: float(np.mean(np.concatenate([np.asarray(row) for row in rows[1::2]]) > threshold))
        for kind, rows in found.items()
    }


# ---- filter


def executed(checkpoint: Path, task: Task, settings: Settings, seed: int, *, on: bool) -> dict[str, Any]:
    """Violations among the executed actions when noise is added to what was planned."""
    policy = policies.load(checkpoint, settings.device)
    bounds = Bounds.of(policy, checkpoint)
    found: list[bool] = []
    beyond = fast = actions = 0
    with _noisy(policy, on=on):
        for some, episodes in policies.rollouts(policy, checkpoint, task, settings, seed):
            found += some
            for episode in episodes:
                actions += len(episode)
                beyond += bounds.beyond(episode)
                fast += bounds.too_fast(episode)
    return {"successes": found, "actions": actions, "limit": beyond, "velocity": fast}


@dataclass(frozen=True)
class Bounds:
    """What executed actions must not do, in the arm's units.

    Args:
        low (`Tensor`): (A,) least action.
        high (`Tensor`): (A,) greatest action.
        change (`Tensor`): (A,) greatest change from one action to the next.
    """

    low: Tensor
    high: Tensor
    change: Tensor

    @classmethod
    def of(cls, policy: Any, checkpoint: Path) -> Bounds:
        """The bounds that a policy states, with some slack for rounding."""
        _, unnormalise = policies.processors(policy, checkpoint)
        network = policy._network
        low, high = (
            unnormalise(end[None])[0] for end in (network.limits.action_low, network.limits.action_high)
        )
        usual = network.filter.change.value()
        change = unnormalise(usual[None])[0] - unnormalise(torch.zeros_like(usual)[None])[0]
        slack = SLACK * (high - low)
        return cls(low - slack, high + slack, policy.config.filter_margin * change + slack)

    def beyond(self, actions: Tensor) -> int:
        """How many of the actions (T, A) leave the range."""
        return int(((actions < self.low) | (actions > self.high)).any(-1).sum())

    def too_fast(self, actions: Tensor) -> int:
        """How many of them differ by more than allowed from the one before."""
        return int((actions.diff(dim=0).abs() > self.change).any(-1).sum())


@contextmanager
def _noisy(policy: Any, *, on: bool) -> Iterator[None]:
    """Add noise to what the filter gets; without it that is executed."""
    guard = policy._network.filter
    real = guard.forward
    generator = torch.Generator().manual_seed(0)

    def forward(chunk: Tensor, *rest: Any, **named: Any) -> tuple[Tensor, Tensor]:
        noisy = chunk + NOISE * torch.randn(chunk.shape, generator=generator).to(chunk.device)
        if on:
            made: tuple[Tensor, Tensor] = real(noisy, *rest, **named)
            return made
        return noisy, torch.zeros(len(chunk), dtype=torch.bool, device=chunk.device)

    guard.forward = forward
    try:
        yield
    finally:
        del guard.forward
