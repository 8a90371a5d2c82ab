# SPDX-License-Identifier: Apache-2.0
"""A cell: one policy trained from one seed on one kind of data, and evaluated; kept with its recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

from hierarchical_parts.commands import Commands
from hierarchical_parts.store import Store, source_fingerprint
from rl_parts import stages
from rl_parts.cells import EVAL_SEED
from rl_parts.methods import fields_of, package_of

from koch_policies_parts.policies import IMAGE, POLICIES, STATE, taking_part

DATA = {"expert": "expert", "noisy": "clumsy", "mixed": "mixed"}
"""Skills of `lerobot-ext demos`, and their names in tables."""


@dataclass(frozen=True)
class Amount:
    """How much each policy is given, the same for all.

    Args:
        demos (`int`): Episodes of each kind of data.
        steps (`int`): Of a training.
        batch (`int`): Frames of a step.
        episodes (`int`): Evaluated for each cell.
    """

    demos: int
    steps: int
    batch: int
    episodes: int = 100


AMOUNTS = {STATE: Amount(90, 2000, 64), IMAGE: Amount(50, 400, 32)}
QUICK = Amount(3, 4, 8, episodes=2)


@dataclass(frozen=True)
class Cell:
    """What is trained on what."""

    task: str
    observation: str
    data: str
    policy: str
    seed: int

    @property
    def name(self) -> str:
        """In file names and progress."""
        return f"{self.task}.{self.observation}.{self.data}.{self.policy}.seed{self.seed}"


def cells(
    tasks: Sequence[str],
    observations: Sequence[str],
    data: Sequence[str],
    policies: Sequence[str],
    seeds: int,
) -> list[Cell]:
    """All that can be, one seed after the other."""
    return [
        Cell(task, observation, kind, policy, seed)
        for seed, task, observation, kind in product(range(seeds), tasks, observations, data)
        for policy in taking_part(policies, observation)
    ]


def recipe(cell: Cell, amount: Amount) -> dict[str, Any]:
    """All that decides what a cell gives, but for the code."""
    policy = POLICIES[cell.policy]
    return {
        "cell": asdict(cell),
        "amount": asdict(amount),
        "policy": fields_of(policy.training(cell.observation)),
        "acting": list(policy.acting),
        "data_seed": stages.DATA_SEED,
        "eval_seed": EVAL_SEED,
    }


def data_of(cell: Cell, amount: Amount, out: Path) -> Path:
    """Root of the dataset of a cell."""
    return stages.data_folder(out, cell.task, amount.demos, cell.data, cameras=cell.observation == IMAGE)


def record(some: Sequence[Cell], amounts: dict[str, Amount], out: Path, commands: Commands) -> None:
    """Record the data of cells, where it is not there."""
    for task, observation, kind in dict.fromkeys((c.task, c.observation, c.data) for c in some):
        demos = amounts[observation].demos
        stages.record(out, task, demos, commands, kind, cameras=observation == IMAGE)


def run(cell: Cell, amount: Amount, out: Path, commands: Commands) -> dict[str, Any]:
    """Train and evaluate, unless that is done."""
    store, wanted = Store(out / "cells"), recipe(cell, amount)
    done = store.load(cell.name, wanted)
    if done is not None:
        return done
    policy, folder, cameras = POLICIES[cell.policy], out / "runs" / cell.name, cell.observation == IMAGE
    train_s = stages.train(
        commands, f"{cell.name}.train", policy.training(cell.observation), data_of(cell, amount, out), folder,
        steps=amount.steps, seed=cell.seed, batch=amount.batch, pool=cameras,
    )  # fmt: skip
    successes, eval_s = stages.play(
        commands, f"{cell.name}.eval", stages.checkpoint(folder), folder / "eval",
        task=cell.task, episodes=amount.episodes, seed=EVAL_SEED, acting=policy.acting, cameras=cameras,
    )  # fmt: skip
    result = {
        "successes": successes,
        "episodes": amount.episodes,
        "parameters": _parameters(stages.checkpoint(folder) / "model.safetensors"),
        "train_s": round(train_s, 1),
        "eval_s": round(eval_s, 1),
        "measured": datetime.now().isoformat(timespec="seconds"),
        "source": source_fingerprint(package_of(wanted["policy"]["type"])),
    }
    store.save(cell.name, wanted, result)
    print(f"{cell.name}: {successes} of {amount.episodes}", flush=True)
    return result


def _parameters(weights: Path) -> int:
    """Numbers in a file of weights, by its head alone."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def found(out: Path, amounts: dict[str, Amount]) -> Iterator[dict[str, Any]]:
    """The cells that are there and were made as they would be now, as rows."""
    store = Store(out / "cells")
    for name, made, _ in store.all("*"):
        cell = Cell(**made["cell"])
        amount = amounts[cell.observation]
        result = store.load(name, recipe(cell, amount)) if cell.policy in POLICIES else None
        if result is not None:
            yield asdict(cell) | asdict(amount) | result
        else:
            print(f"left out: {name}, made with other settings than the present ones")
