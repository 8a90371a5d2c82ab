# SPDX-License-Identifier: Apache-2.0
"""Success against the time that a plan may take, and whether the time is kept.

The two are measured apart. What a budget runs is decided by the table that `lerobot-ext latency` measures on
this machine; that choice is then evaluated as it is, so that the success does not depend on what else the
machine does. The deadlines are measured with the clock, and mean something on a quiet machine only.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from hierarchical_parts import data, policies
from hierarchical_parts.commands import Commands
from hierarchical_parts.settings import Settings, Task

BUDGETS_MS = (5.0, 10.0, 20.0, 50.0, 100.0)
_WARM_UP = 10


def table(checkpoint: Path, task: Task, settings: Settings, commands: Commands, name: str) -> dict[str, Any]:
    """What `lerobot-ext latency` measures; it also keeps it beside the checkpoint."""
    words = [
        "lerobot-ext",
        "latency",
        f"--policy.path={checkpoint}",
        f"--policy.device={settings.device}",
        f"--dataset.repo_id={data.repo_id(task, 'held_out')}",
        f"--dataset.root={data.folder(task, settings, 'held_out')}",
        f"--repeats={settings.plans}",
        *(["--frames=32"] if settings.quick else []),
        "--json",
    ]
    load = os.getloadavg()[0]
    found: dict[str, Any] = json.loads(commands.run(name, words))
    return {name: found[name] for name in ("costs", "errors", "budgets")} | {"load": load}


def choices(measured: dict[str, Any]) -> dict[float, tuple[int, int]]:
    """Number of layers and of steps that each budget runs."""
    rows = {float(row["budget_ms"]): (int(row["layers"]), int(row["steps"])) for row in measured["budgets"]}
    return {budget: rows[budget] for budget in BUDGETS_MS}


def quality(
    checkpoint: Path, task: Task, settings: Settings, seed: int, layers: int, steps: int
) -> list[bool]:
    """Successes of a fixed choice."""
    policy = policies.load(checkpoint, settings.device, num_inference_steps=steps)
    for name in tuple(policy.network.layers)[max(1, layers) :]:
        policy.set_layer_enabled(name, False)
    return policies.successes(policy, checkpoint, task, settings, seed)


def deadlines(checkpoint: Path, task: Task, settings: Settings) -> dict[str, Any]:
    """Milliseconds of plans under each budget, and how many were ready in time."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {"load": os.getloadavg()[0]}
    for budget in BUDGETS_MS:
        policy = policies.load(checkpoint, settings.device, latency_budget_ms=budget)
        seen = policies.observations(policy, checkpoint, task, settings, 50)
        rows = []
        for number in range(_WARM_UP + settings.plans):
            policy.reset()
            started = time.perf_counter()
            policy.select_action(dict(seen[number % len(seen)]))
            took_ms = 1e3 * (time.perf_counter() - started)
            info = policy.last_info
            if number >= _WARM_UP:
                rows.append((took_ms, info["within_budget"], info["steps"], len(info["active_layers"])))
        found[f"{budget:g}"] = {
            "ms": [round(row[0], 3) for row in rows],
            "within": [bool(row[1]) for row in rows],
            "steps": [row[2] for row in rows],
            "layers": [row[3] for row in rows],
        }
    return found
