# SPDX-License-Identifier: Apache-2.0
"""Milliseconds of a planned chunk, ours and stock diffusion in turns in one process, for one robot.

Stock as it ships is untrained here: its speed does not depend on its weights.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from hierarchical_parts import methods, policies
from hierarchical_parts.matching import build, trained_parameters
from hierarchical_parts.settings import OURS, Settings, Task

SHIPPED = "stock_default"
TURNS = 3


def contestants(task: Task, checkpoint: Path, settings: Settings) -> dict[str, Any]:
    """The policies, ready to act; in a quick run the slow one takes two steps instead of its hundred."""
    device = settings.device
    shipped: dict[str, Any] = (
        {"pretrained_backbone_weights": None, "use_group_norm": True} if task.cameras else {}
    )
    shipped |= {"num_inference_steps": 2} if settings.quick else {}
    stock = {name: value for name, value in methods.fields("stock", task).items() if name != "type"}
    made = {
        OURS: policies.load(checkpoint, device),
        "stock": build("diffusion", stock, task.cameras),
        "stock.ddim10": build("diffusion", stock | methods.DDIM, task.cameras),
        SHIPPED: build("diffusion", shipped, task.cameras),
    }
    return {name: policy.to(device).eval() for name, policy in made.items()}


def chunks(checkpoint: Path, task: Task, settings: Settings, threads: int) -> dict[str, Any]:
    """Milliseconds of each contestant's chunks, and how many actions of a chunk are executed."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        each = contestants(task, checkpoint, settings)
        seen = policies.observations(each[OURS], checkpoint, task, settings, 10)
        ms: dict[str, list[float]] = {name: [] for name in each}
        load = os.getloadavg()[0]
        for turn in range(1 if settings.quick else TURNS):
            for name, policy in each.items():
                # The slow one's chunks take seconds: one a turn says enough.
                some = 1 if name == SHIPPED else max(2, settings.plans // TURNS)
                if name != SHIPPED and turn == 0:
                    _plan(policy, seen[0])
                ms[name] += [_plan(policy, seen[number % len(seen)]) for number in range(some)]
        return {
            "load": load,
            "threads": threads,
            "ms": {name: [round(value, 3) for value in values] for name, values in ms.items()},
            "executed": {name: policy.config.n_action_steps for name, policy in each.items()},
            "parameters": {name: trained_parameters(policy) for name, policy in each.items()},
        }
    finally:
        torch.set_num_threads(before)


def _plan(policy: Any, observation: dict[str, Any]) -> float:
    """Milliseconds from a fresh observation to the first action of a new chunk."""
    policy.reset()
    started = time.perf_counter()
    policy.select_action(dict(observation))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - started)
