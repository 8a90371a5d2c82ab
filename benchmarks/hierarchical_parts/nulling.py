# SPDX-License-Identifier: Apache-2.0
"""What each layer is worth to the denoiser: the held-out diffusion loss without it.

All variants of a frame get the same noise and the same time (paired), several of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hierarchical_parts import policies
from hierarchical_parts.intervals import Interval, ratio_of_sums
from hierarchical_parts.settings import Settings, Task

FULL = "all layers"
SEED = 7


def variants(layers: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Which layers' features are kept: all, all but one, and the nested prefixes."""
    alone = {f"without {name}": frozenset(layers) - {name} for name in layers}
    prefixes = {f"only {', '.join(layers[:n])}": frozenset(layers[:n]) for n in range(1, len(layers))}
    return {FULL: frozenset(layers), **alone, "without any layer": frozenset(), **prefixes}


@torch.no_grad()
def losses(checkpoint: Path, task: Task, settings: Settings) -> dict[str, Any]:
    """Sums of the held-out diffusion loss of each episode, by variant, and the episodes' frames."""
    policy = policies.load(checkpoint, settings.device)
    layers = tuple(policy.network.layers)
    every = variants(layers)
    sums: dict[str, dict[int, float]] = {name: {} for name in every}
    frames: dict[int, int] = {}
    for number, batch in enumerate(policies.held_out(policy, checkpoint, task, settings)):
        episodes = batch["episode_index"].tolist()
        for episode in episodes:
            frames[episode] = frames.get(episode, 0) + settings.noise_draws
        for draw in range(settings.noise_draws):
            seed = SEED + 1000 * number + draw
            for name, kept in every.items():
                loss = diffusion_loss(policy, batch, kept, seed).tolist()
                for episode, value in zip(episodes, loss, strict=True):
                    sums[name][episode] = sums[name].get(episode, 0.0) + value
    order = sorted(frames)
    return {
        "layers": layers,
        "frames": [frames[episode] for episode in order],
        "sums": {name: [found[episode] for episode in order] for name, found in sums.items()},
    }


def diffusion_loss(policy: Any, batch: dict[str, Any], kept: frozenset[str], seed: int) -> Tensor:
    """Diffusion loss (B,) of a preprocessed batch with noise and times from `seed`."""
    network = policy._network
    observation = policy.observation_from_batch(batch)
    frames = network.frames(observation)
    targets = policy._targets(batch, frames)
    with _same_noise(network, seed):
        loss: Tensor = network.losses(observation, frames, targets, kept=kept)["diffusion"]
    return loss


@contextmanager
def _same_noise(network: Any, seed: int) -> Iterator[None]:
    """Whatever the layers have drawn before, the diffusion loss draws from `seed`."""
    real = network.diffusion_loss

    def seeded(*args: Any, **kwargs: Any) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            loss: Tensor = real(*args, **kwargs)
        return loss

    network.diffusion_loss = seeded
    try:
        yield
    finally:
        del network.diffusion_loss


def rises(found: list[dict[str, Any]]) -> dict[str, Interval]:
    """By how much of the full loss each variant is above it, over several trainings."""
    full = np.array([one["sums"][FULL] for one in found])
    return {
        name: ratio_of_sums(np.array([one["sums"][name] for one in found]) - full, full)
        for name in found[0]["sums"]
        if name != FULL
    }


def loss_of(found: list[dict[str, Any]]) -> Interval:
    """The held-out diffusion loss with all layers."""
    frames = np.array([one["frames"] for one in found], dtype=np.float64)
    return ratio_of_sums(np.array([one["sums"][FULL] for one in found]), frames)
