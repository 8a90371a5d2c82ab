# SPDX-License-Identifier: Apache-2.0
"""Measure what the parts of a plan cost here, and what error each choice of parts leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..network import HierarchicalDiffusionNetwork, Observation
from ..targets import demonstrated_chunk, masked_mean
from .table import Choice, Costs, from_samples, machine_name

_WARM_UP = 3
_TIMED_STEPS = 2


def measure_costs(
    network: HierarchicalDiffusionNetwork,
    observation: Observation,
    repeats: int = 50,
    tick: Callable[[], None] = lambda: None,
) -> Costs:
    """Plan `repeats` times with all layers and take the 95th percentile of each part.

    Args:
        network (`HierarchicalDiffusionNetwork`): Whose weights do not matter.
        observation (`Observation`): Any observation of the size that is to be planned for.
        repeats (`int`, *optional*, defaults to `50`): Plans that count; a few more come before them.
        tick (`Callable`, *optional*): Called after each plan.
    """
    device = observation.state.device
    samples = []
    with _all_layers(network):
        for number in range(_WARM_UP + repeats):
            if network.vision is not None:
                network.vision.forget()  # a robot's frames differ, and each has to be encoded
            # The callback makes the laps exact on an accelerator.
            _, info = network.plan(
                observation, None, _TIMED_STEPS, frozenset(network.names), lambda *_: _TIMED_STEPS
            )
            tick()
            if number >= _WARM_UP:
                samples.append(info["ms"] | {"step": info["ms"]["denoise"] / _TIMED_STEPS})
    return from_samples(machine_name(str(device), torch.get_num_threads()), samples, network.names)


@torch.no_grad()
def measure_errors(
    network: HierarchicalDiffusionNetwork,
    batches: Iterable[tuple[Observation, dict[str, Any]]],
    allowed: list[Choice],
    seed: int = 0,
) -> dict[Choice, tuple[float, float]]:
    """Mean absolute error of the planned actions against demonstrations, for each choice.

    All choices refine from the same noise, so that their differences are the choices' own.

    Args:
        network (`HierarchicalDiffusionNetwork`): The averaged weights.
        batches (`Iterable`): Observations with their preprocessed batch (`action`, `action_is_pad`).
        allowed (`list[Choice]`): What to measure.
        seed (`int`, *optional*, defaults to `0`): Of the noise.

    Returns:
        `dict[Choice, tuple[float, float]]`: Mean and standard error over the frames.
    """
    generator = torch.Generator().manual_seed(seed)
    errors: dict[Choice, list[Tensor]] = {choice: [] for choice in allowed}
    for observation, batch in batches:
        actions, valid = demonstrated_chunk(batch, network.config.horizon)
        noise = torch.randn(actions.shape, generator=generator).to(actions.device)
        for choice in allowed:
            chunk, _ = network.plan(
                observation, noise, choice.steps, frozenset(network.names[: choice.layers])
            )
            errors[choice].append(masked_mean((chunk - actions).abs(), valid).cpu())
    result = {}
    for choice, parts in errors.items():
        every = torch.cat(parts)
        result[choice] = (float(every.mean()), float(every.std() / max(1, len(every)) ** 0.5))
    return result


@contextmanager
def _all_layers(network: HierarchicalDiffusionNetwork) -> Iterator[None]:
    """Let all layers run, whatever a curriculum has let take part: their cost is the same."""
    before = network.stage_weights.clone()
    network.stage_weights.fill_(1.0)
    try:
        yield
    finally:
        network.stage_weights.copy_(before)
