# SPDX-License-Identifier: Apache-2.0
"""What the policy's commands begin with: a checkpoint, and frames of a dataset as it was trained on them."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from lerobot.configs.policies import PreTrainedConfig

from lerobot_ext.cli.command import CommandError

from .modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy
from .network import Observation

_BATCH = 64


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


def dataset_batches(
    policy: HierarchicalDiffusionPolicy, args: Namespace
) -> Iterator[tuple[Observation, dict[str, Any]]]:
    """Preprocessed batches of evenly spread frames of a dataset.

    Args:
        policy (`HierarchicalDiffusionPolicy`): Whose windows are cut.
        args (`Namespace`): `path` of the checkpoint, `repo_id`, `root`, and the number of `frames`.

    Raises:
        CommandError: The dataset cannot be read.
    """
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
