# SPDX-License-Identifier: Apache-2.0
"""The work of `lerobot-ext latency`: load, measure, store."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lerobot_ext.cli.look import progress

from ..configuration_hierarchical_diffusion import MAX_INFERENCE_STEPS
from ..loading import dataset_batches, load_policy
from ..modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy
from .calibrate import measure_costs, measure_errors
from .chooser import Chooser
from .table import Choice, LatencyTable, choices

_BATCH = 64


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Args:
        table (`LatencyTable`): Costs and errors.
        errors (`dict[Choice, tuple[float, float]]`): Errors with their standard errors.
        repeats (`int`): Plans that were timed.
        path (`Path`, *optional*): Where the table was stored.
        layers (`tuple[str, ...]`): The policy's layers.
    """

    table: LatencyTable
    errors: dict[Choice, tuple[float, float]]
    repeats: int
    path: Path | None
    layers: tuple[str, ...]

    def by_budget(self, budgets_ms: Sequence[float]) -> list[tuple[float, Choice, bool]]:
        """What each budget would run, and whether that is ready in time."""
        allowed = list(self.errors) or choices(self.layers, 4)
        choosers = [Chooser(self.table, ms) for ms in budgets_ms]
        chosen = [one.choose(allowed) for one in choosers]
        return [(one.budget_ms, what, one.fits(what)) for one, what in zip(choosers, chosen, strict=True)]


def measure(args: Namespace) -> Measured:
    """Measure as the command's arguments say.

    Raises:
        CommandError: There is no such checkpoint or dataset, or it is another policy's.
    """
    policy = load_policy(args.path, args.device)
    network = policy.average if policy.average is not None else policy.network
    observation = policy.observation_from_batch(_empty_observation(policy))
    with progress() as bar:
        task = bar.add_task("timing", total=args.repeats)
        costs = measure_costs(network, observation, args.repeats, lambda: bar.advance(task))
        errors: dict[Choice, tuple[float, float]] = {}
        if args.repo_id:
            batches = dataset_batches(policy, args)
            task = bar.add_task("errors", total=args.frames)
            watched = _watched(batches, lambda n: bar.advance(task, n))
            errors = measure_errors(network, watched, choices(network.names, MAX_INFERENCE_STEPS))
    before = LatencyTable.load(Path(args.path), len(network.names))
    known = {choice: error for choice, (error, _) in errors.items()}
    table = LatencyTable(costs, known or (before.errors if before is not None else {}))
    path = None if args.dry_run else table.save(Path(args.path))
    return Measured(table, errors, args.repeats, path, network.names)


def _empty_observation(policy: HierarchicalDiffusionPolicy) -> dict[str, Any]:
    """One observation of the right shapes; costs do not depend on the values."""
    features = (policy.config.input_features or {}).items()
    device = policy.config.device
    return {name: torch.zeros(1, *feature.shape, device=device) for name, feature in features} | {
        "task": ["a task of usual length"]
    }


def _watched(batches: Any, advance: Any) -> Iterator[Any]:
    for observation, batch in batches:
        yield observation, batch
        advance(len(observation.state))
