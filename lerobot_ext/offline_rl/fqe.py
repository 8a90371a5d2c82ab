# SPDX-License-Identifier: Apache-2.0
"""Fitted Q evaluation: what a policy would earn, from logs alone (Le, Voloshin, Yue, 2019).

A critic of its own is fitted to `Q(s, a) = returns + γ^H · Q̄(s', π(s'))` with the policy's actions at the
next states, and read at the first states of episodes. It ranks checkpoints of one policy without a robot; its
number is no success rate, and where the data never shows what the policy does, it guesses.

Differences from the reference: an ensemble with a slow target network in place of one regression after the
other to the end; actions are chunks.

Legend: `N` samples, `D` feature, `C` width of a flattened chunk, `E` ensemble member, `M` starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .bounds import ValueBounds
from .chunks import ChunkTargets
from .critics import EnsembleMLP
from .losses import masked_mean
from .targets import make_target, soft_update


@dataclass(frozen=True)
class EvaluationData:
    """What fitted Q evaluation reads: logged chunks, and what the policy does at the states after them.

    Args:
        features (`Tensor`): (N, D) of the state at which a chunk begins, near unit scale.
        chunks (`Tensor`): (N, C) logged actions, flattened, padded ends held.
        targets (`ChunkTargets`): (N,) each.
        next_features (`Tensor`): (N, D) of the state after the chunk.
        next_chunks (`Tensor`): (N, C) the policy's actions there.
        start_features (`Tensor`): (M, D) of first states of episodes.
        start_chunks (`Tensor`): (M, C) the policy's actions there.
    """

    features: Tensor
    chunks: Tensor
    targets: ChunkTargets
    next_features: Tensor
    next_chunks: Tensor
    start_features: Tensor
    start_chunks: Tensor

    def usable(self) -> EvaluationData:
        """Only the samples that say what their chunk is worth."""
        keep = self.targets.usable
        return replace(
            self,
            features=self.features[keep],
            chunks=self.chunks[keep],
            targets=ChunkTargets(*(part[keep] for part in self.targets)),
            next_features=self.next_features[keep],
            next_chunks=self.next_chunks[keep],
        )


@dataclass(frozen=True)
class EvaluationOptions:
    """How the critic is fitted.

    Args:
        steps (`int`, *optional*, defaults to `2000`): Optimizer steps.
        batch_size (`int`, *optional*, defaults to `256`): Samples a step.
        lr (`float`, *optional*, defaults to `1e-3`): Adam's learning rate, falling to zero by a cosine.
        hidden (`tuple[int, ...]`, *optional*, defaults to `(256, 256)`): Hidden widths.
        members (`int`, *optional*, defaults to `4`): Critics, each from its own start.
        rate (`float`, *optional*, defaults to `0.01`): Of the target network.
        seed (`int`, *optional*, defaults to `0`): Of weights and batches.
    """

    steps: int = 2000
    batch_size: int = 256
    lr: float = 1e-3
    hidden: tuple[int, ...] = (256, 256)
    members: int = 4
    rate: float = 0.01
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Args:
        value (`float`): Mean value of the starts, over the members too.
        spread (`float`): Standard deviation of the members' means: how far they disagree.
        starts (`Tensor`): (E, M) values.
        error (`float`): Root of the mean squared temporal difference over all samples, at the end.
    """

    value: float
    spread: float
    starts: Tensor
    error: float


def fitted_q_evaluation(
    data: EvaluationData, bounds: ValueBounds, options: EvaluationOptions | None = None
) -> Evaluation:
    """Fit a critic to the policy's values and read it at the starts.

    Args:
        data (`EvaluationData`): Logged chunks and the policy's actions.
        bounds (`ValueBounds`): Targets are clamped to it; values are learned in its unit.
        options (`EvaluationOptions`, *optional*): How.

    Raises:
        ValueError: If no sample is usable, or there is no start.
    """
    options = options or EvaluationOptions()
    data = data.usable()
    if not len(data.features) or not len(data.start_features):
        raise ValueError(
            f"fitted Q evaluation has {len(data.features)} usable chunks and {len(data.start_features)} "
            "first states; it needs both. Episodes that were cut off give only the chunks within them."
        )
    device = data.features.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(options.seed)
        critic = _fit(data, bounds, options)
    with torch.no_grad():
        starts = critic(data.start_features, data.start_chunks) * bounds.scale
        found = critic(data.features, data.chunks)
        wanted = _targets(critic, data, bounds, slice(None))
        error = float((found - wanted).square().mean().sqrt()) * bounds.scale
    means = starts.mean(1)
    return Evaluation(float(means.mean()), float(means.std(correction=0)), starts, error)


def _fit(data: EvaluationData, bounds: ValueBounds, options: EvaluationOptions) -> EnsembleMLP:
    width = data.features.shape[1] + data.chunks.shape[1]
    critic = EnsembleMLP(options.members, width, options.hidden).to(data.features.device, data.features.dtype)
    target = make_target(critic)
    optimizer = torch.optim.Adam(critic.parameters(), lr=options.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    for _ in range(options.steps):
        rows = torch.randint(len(data.features), (options.batch_size,), device=data.features.device)
        with torch.no_grad():
            wanted = _targets(target, data, bounds, rows)
        found = critic(data.features[rows], data.chunks[rows])
        loss = masked_mean((found - wanted).square(), torch.ones_like(rows, dtype=torch.bool)).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        soft_update(target, critic, options.rate)
    return critic


def _targets(critic: EnsembleMLP, data: EvaluationData, bounds: ValueBounds, rows: Tensor | slice) -> Tensor:
    """(E, B) in units of `bounds.scale`; each member bootstraps from its own target."""
    following = critic(data.next_features[rows], data.next_chunks[rows])
    wanted = data.targets.returns[rows] / bounds.scale + data.targets.bootstrap[rows] * following
    clamped: Tensor = wanted.clamp(bounds.low / bounds.scale, bounds.high / bounds.scale)
    return clamped
