# SPDX-License-Identifier: Apache-2.0
"""The work of `lerobot-ext latency`: load, measure, store."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lerobot.configs.policies import PreTrainedConfig

from lerobot_ext.cli.command import CommandError
from lerobot_ext.cli.look import progress

from ..configuration_hierarchical_diffusion import MAX_INFERENCE_STEPS
from ..modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy
from ..network import Observation
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

    def by_budget(self, budgets_ms: Sequence[float]) -> list[tuple[float, Choice]]:
        """What each budget would run."""
        allowed = list(self.errors) or choices(self.layers, 4)
        return [(ms, Chooser(self.table, ms).choose(allowed)) for ms in budgets_ms]


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
            batches = _batches(policy, args)
            task = bar.add_task("errors", total=args.frames)
            watched = _watched(batches, lambda n: bar.advance(task, n))
            errors = measure_errors(network, watched, choices(network.names, MAX_INFERENCE_STEPS))
    before = LatencyTable.load(Path(args.path), len(network.names))
    known = {choice: error for choice, (error, _) in errors.items()}
    table = LatencyTable(costs, known or (before.errors if before is not None else {}))
    path = None if args.dry_run else table.save(Path(args.path))
    return Measured(table, errors, args.repeats, path, network.names)


def load_policy(path: str, device: str | None) -> HierarchicalDiffusionPolicy:
    """A checkpoint, ready to plan.

    Raises:
        CommandError: It is none, or another policy's.
    """
    if not (Path(path) / "config.json").is_file():
        raise CommandError(
            f"{path} is no checkpoint: it has no config.json", "name its pretrained_model folder"
        )
    config = PreTrainedConfig.from_pretrained(path)
    if config.type != HierarchicalDiffusionPolicy.name:
        raise CommandError(
            f"{path} is a policy of type {config.type}, whose parts cannot be chosen",
            "`lerobot-ext offline-eval` times any policy",
        )
    if device:
        config.device = device
    with redirect_stdout(sys.stderr):  # LeRobot prints, and `--json` means that nobody else does
        policy = HierarchicalDiffusionPolicy.from_pretrained(path, config=config)
    return policy.to(config.device).eval()  # type: ignore[no-any-return]


def _empty_observation(policy: HierarchicalDiffusionPolicy) -> dict[str, Any]:
    """One observation of the right shapes; costs do not depend on the values."""
    features = (policy.config.input_features or {}).items()
    device = policy.config.device
    return {name: torch.zeros(1, *feature.shape, device=device) for name, feature in features} | {
        "task": ["a task of usual length"]
    }


def _batches(
    policy: HierarchicalDiffusionPolicy, args: Namespace
) -> Iterator[tuple[Observation, dict[str, Any]]]:
    """Preprocessed batches of evenly spread frames of the dataset."""
    from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
    from lerobot.datasets.factory import resolve_delta_timestamps
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.policies.factory import make_pre_post_processors

    try:
        meta = LeRobotDatasetMetadata(args.repo_id, root=args.root)
        windows = resolve_delta_timestamps(policy.config, meta)
        dataset = LeRobotDataset(args.repo_id, root=args.root, delta_timestamps=windows)
    except (OSError, ValueError) as error:
        raise CommandError(
            f"--dataset.repo_id {args.repo_id} cannot be read: {error}",
            "look at it with `lerobot-ext doctor --dataset.repo_id=…`",
        ) from error
    preprocess, _ = make_pre_post_processors(
        policy.config,
        pretrained_path=args.path,
        preprocessor_overrides={"device_processor": {"device": str(policy.config.device)}},
    )
    count = min(args.frames, len(dataset))
    rows = torch.linspace(0, len(dataset) - 1, count).long().tolist()
    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(dataset, rows), batch_size=_BATCH)
    for batch in loader:
        prepared = preprocess(batch)
        yield policy.observation_from_batch(prepared), prepared


def _watched(batches: Any, advance: Any) -> Iterator[Any]:
    for observation, batch in batches:
        yield observation, batch
        advance(len(observation.state))
