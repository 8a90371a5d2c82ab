# SPDX-License-Identifier: Apache-2.0
"""Whether the evaluated episodes are among those that a checkpoint was trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lerobot_ext.evaluation.episodes import held_out


def training_note(folder: Path, repo_id: str, episodes: Sequence[int], tasks: Sequence[Sequence[str]]) -> str:
    """One sentence about it; empty where nothing is known or none of them was trained on.

    Args:
        folder (`Path`): Of the checkpoint, with the `train_config.json` that the stock trainer leaves there.
        repo_id (`str`): Of the dataset.
        episodes (`Sequence[int]`): Those evaluated.
        tasks (`Sequence[Sequence[str]]`): Tasks of each episode of the dataset.
    """
    known = _training_dataset(folder)
    if known.get("repo_id") != repo_id:
        return ""
    chosen = known.get("episodes")
    everything = list(range(len(tasks))) if chosen is None else [int(index) for index in chosen]
    everything = [index for index in everything if index < len(tasks)]
    spared = held_out(everything, tasks, float(known.get("eval_split") or 0.0))
    seen = (set(everything) - set(spared)) & set(episodes)
    if not seen:
        return ""
    return (
        f"{len(seen)} of these {len(episodes)} episodes are among those it was trained on, by its "
        "train_config.json: the figures say how well it remembers them. Train with --dataset.eval_split=0.1 "
        "and say the same here, for episodes that it has never seen."
    )


def _training_dataset(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "train_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a checkpoint without it is as good as any other
    dataset = config.get("dataset") if isinstance(config, dict) else None
    return dataset if isinstance(dataset, dict) else {}
