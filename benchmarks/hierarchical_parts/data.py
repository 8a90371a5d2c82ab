# SPDX-License-Identifier: Apache-2.0
"""The demonstrations of a task: those that are trained on, and those that nobody trains on."""

from __future__ import annotations

import json
from pathlib import Path

from hierarchical_parts.commands import Commands
from hierarchical_parts.settings import Settings, Task

TRAIN_SEED, HELD_OUT_SEED = 0, 9000


def record(task: Task, settings: Settings, commands: Commands) -> None:
    """Record what is missing; `lerobot-ext demos` goes on where it was stopped."""
    for part, episodes, seed in (
        ("train", task.demos, TRAIN_SEED),
        ("held_out", task.held_out, HELD_OUT_SEED),
    ):
        root = folder(task, settings, part)
        if _episodes(root) >= episodes:
            continue
        cameras = ["--with-images", "--no-environment-state"] if task.cameras else []
        words = [f"--repo_id={repo_id(task, part)}", f"--root={root}", f"--task={task.koch}", *cameras]
        words += [f"--episodes={episodes}", f"--seed={seed}"]
        commands.run(f"demos.{task.name}.{part}", ["lerobot-ext", "demos", *words])


def folder(task: Task, settings: Settings, part: str) -> Path:
    """Root of the dataset `part`, `train` or `held_out`; its size is in its name."""
    episodes = task.demos if part == "train" else task.held_out
    return settings.out / "data" / f"{task.name}-{part}-{episodes}"


def repo_id(task: Task, part: str) -> str:
    """Name of the dataset."""
    return f"local/{task.name}_{part}"


def _episodes(root: Path) -> int:
    try:
        return int(json.loads((root / "meta" / "info.json").read_text())["total_episodes"])
    except FileNotFoundError:
        return 0
