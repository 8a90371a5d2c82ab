# SPDX-License-Identifier: Apache-2.0
"""The diffusion loss with layers replaced by their nulls, the same noise and times for all (paired)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lerobot_ext.bootstrap import Interval, ratio_of_sums

from ..layers.base import LayerInputs, Targets
from ..modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy
from ..network import HierarchicalDiffusionNetwork, Observation

FULL = "all layers"
_SEED = 7


@dataclass(frozen=True)
class EpisodeLosses:
    """Sums of the diffusion loss over the frames of each episode, and the noises of each frame.

    Args:
        frames (`list[int]`): Loss values in each episode's sums.
        sums (`dict[str, list[float]]`): By variant, of each episode.
    """

    frames: list[int]
    sums: dict[str, list[float]]

    def loss(self) -> Interval:
        """Mean loss with all layers."""
        return loss_of([self.sums[FULL]], [self.frames])

    def rises(self) -> dict[str, Interval]:
        """By how much of the full loss each variant is above it."""
        return rises_of([self.sums])


def variants(layers: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Which layers' features are kept: all, all but one, none, and the nested prefixes."""
    alone = {f"without {name}": frozenset(layers) - {name} for name in layers}
    prefixes = {f"only {', '.join(layers[:n])}": frozenset(layers[:n]) for n in range(1, len(layers))}
    return {FULL: frozenset(layers), **alone, "without any layer": frozenset(), **prefixes}


@torch.no_grad()
def episode_losses(
    policy: HierarchicalDiffusionPolicy, batches: Iterable[dict[str, Any]], draws: int
) -> EpisodeLosses:
    """Measure all variants of a policy.

    Args:
        policy (`HierarchicalDiffusionPolicy`): In evaluation mode; its averaged weights count.
        batches (`Iterable[dict]`): Preprocessed training batches of frames that it was not trained on.
        draws (`int`): Noises and times of each frame.
    """
    every = variants(policy.config.layers)
    sums: dict[str, dict[int, float]] = {name: {} for name in every}
    frames: dict[int, int] = {}
    for number, batch in enumerate(batches):
        prepared = prepare(policy, batch)
        episodes = batch["episode_index"].flatten().tolist()
        for episode in episodes:
            frames[episode] = frames.get(episode, 0) + draws
        for draw in range(draws):
            for name, kept in every.items():
                loss = diffusion_loss(policy, prepared, kept, _SEED + 1000 * number + draw).tolist()
                for episode, value in zip(episodes, loss, strict=True):
                    sums[name][episode] = sums[name].get(episode, 0.0) + value
    order = sorted(frames)
    return EpisodeLosses(
        [frames[episode] for episode in order],
        {name: [found[episode] for episode in order] for name, found in sums.items()},
    )


class Prepared(NamedTuple):
    """A batch with what no variant changes; cameras are encoded once for all of them."""

    observation: Observation
    frames: Tensor
    targets: Targets
    inputs: LayerInputs


def prepare(policy: HierarchicalDiffusionPolicy, batch: dict[str, Any]) -> Prepared:
    """Read a preprocessed batch."""
    network = _network(policy)
    observation = policy.observation_from_batch(batch)
    frames = network.frames(observation)
    inputs = network.layer_inputs(observation, frames)
    return Prepared(observation, frames, policy.targets(batch, frames), inputs)


def diffusion_loss(
    policy: HierarchicalDiffusionPolicy, prepared: Prepared, kept: frozenset[str], seed: int
) -> Tensor:
    """Diffusion loss (B,) of a batch with the features of the layers `kept`.

    All layers run, whatever is kept, so that the same `seed` gives the same noise and times.
    """
    network = _network(policy)
    threshold = network.filter.threshold.clone()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        every = network.losses(prepared.observation, prepared.frames, prepared.targets, kept, prepared.inputs)
    network.filter.threshold.copy_(threshold)  # these frames are not to move it
    return every["diffusion"]


def _network(policy: HierarchicalDiffusionPolicy) -> HierarchicalDiffusionNetwork:
    return policy.network if policy.average is None else policy.average


def rises_of(sums: list[Mapping[str, list[float]]]) -> dict[str, Interval]:
    """The same over several trainings, whose `sums` are of the same episodes."""
    full = np.array([one[FULL] for one in sums])
    return {
        name: ratio_of_sums(np.array([one[name] for one in sums]) - full, full)
        for name in sums[0]
        if name != FULL
    }


def loss_of(full: list[list[float]], frames: list[list[int]]) -> Interval:
    """Mean loss over several trainings."""
    return ratio_of_sums(np.array(full), np.array(frames, dtype=np.float64))
