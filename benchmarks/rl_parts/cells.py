# SPDX-License-Identifier: Apache-2.0
"""A cell of the offline benchmark: one method trained from one seed on the logs of one task, and evaluated.

Each cell keeps the recipe that made it and is made anew only where its own recipe is another, so that a new
method, or another default of one policy, leaves the cells of the others as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hierarchical_parts.commands import Commands
from hierarchical_parts.store import Store, source_fingerprint

from rl_parts import methods, stages

EVAL_SEED = 100_000
Cells = list[dict[str, Any]]


@dataclass(frozen=True)
class Conditions:
    """What is the same for all cells that are compared.

    Args:
        task (`str`): Of the environment.
        demos (`int`): Episodes of the logs.
        steps (`int`): Training steps.
        episodes (`int`): Evaluated episodes of each cell.
        batch (`int`): Frames of a step.
        data_seed (`int`): Of the logs.
        eval_seed (`int`): First of the evaluated episodes.
    """

    task: str = "lift"
    demos: int = 120
    steps: int = 3000
    episodes: int = 100
    batch: int = stages.BATCH
    data_seed: int = stages.DATA_SEED
    eval_seed: int = EVAL_SEED


def name(conditions: Conditions, method: str, seed: int) -> str:
    """Of a cell, in file names and progress."""
    return f"{conditions.task}.{method}.seed{seed}"


def recipe(conditions: Conditions, method: str, seed: int) -> dict[str, Any]:
    """All that decides what a cell gives, but for the code."""
    return {
        "conditions": asdict(conditions),
        "policy": methods.fields(method),
        "acting": list(methods.METHODS[method].acting),
        "seed": seed,
    }


def run(conditions: Conditions, method: str, seed: int, out: Path, commands: Commands) -> dict[str, Any]:
    """Train and evaluate, unless that is done."""
    store, cell = Store(out / "cells"), name(conditions, method, seed)
    wanted = recipe(conditions, method, seed)
    done = store.load(cell, wanted)
    if done is not None:
        return done
    folder = out / "runs" / cell
    data = stages.data_folder(out, conditions.task, conditions.demos)
    train_s = stages.train(
        commands, f"{cell}.train", methods.METHODS[method].words, data, folder,
        steps=conditions.steps, seed=seed, batch=conditions.batch,
    )  # fmt: skip
    successes, eval_s = stages.play(
        commands, f"{cell}.eval", stages.checkpoint(folder), folder / "eval",
        task=conditions.task, episodes=conditions.episodes, seed=conditions.eval_seed,
        acting=methods.METHODS[method].acting,
    )  # fmt: skip
    result = {
        "method": method,
        "seed": seed,
        "successes": successes,
        "episodes": conditions.episodes,
        "train_s": round(train_s, 1),
        "eval_s": round(eval_s, 1),
        "measured": datetime.now().isoformat(timespec="seconds"),
        "source": source_fingerprint(methods.package(method)),
    }
    store.save(cell, wanted, result)
    print(f"{cell}: {successes} of {conditions.episodes}", flush=True)
    return result


def found(out: Path, asked: dict[str, Any]) -> list[tuple[Conditions, Cells]]:
    """The cells that are there, by task, in the order of the methods.

    Args:
        out (`Path`): The benchmark's folder.
        asked (`dict`): Fields of the conditions that the cells must have; the others may be anything, but
            for the cells of a task the same.

    Raises:
        SystemExit: There are none, or some of a task that cannot be compared.
    """
    kept = [(recipe, result) for _, recipe, result in Store(out / "cells").all("*")]
    kept = [(r, result) for r, result in kept if all(r["conditions"][k] == v for k, v in asked.items())]
    if not kept:
        raise SystemExit(f"{out} holds no results of {asked or 'anything'}; run the benchmark first.")
    every = []
    for task in sorted({r["conditions"]["task"] for r, _ in kept}):
        mine = [pair for pair in kept if pair[0]["conditions"]["task"] == task]
        every.append((_only(task, out, mine), list(_of_one_recipe(mine))))
    return every


def _only(task: str, out: Path, kept: list[tuple[dict[str, Any], dict[str, Any]]]) -> Conditions:
    kinds = list({Conditions(**recipe["conditions"]): None for recipe, _ in kept})
    if len(kinds) > 1:
        differ = sorted(k for k in asdict(kinds[0]) if len({asdict(kind)[k] for kind in kinds}) > 1)
        raise SystemExit(
            f"{out} holds results on {task} of different {', '.join(differ)}, which cannot be compared; "
            f"choose with {' and '.join(f'--{name}' for name in differ)}, or another --out."
        )
    return kinds[0]


def _of_one_recipe(kept: list[tuple[dict[str, Any], dict[str, Any]]]) -> Iterable[dict[str, Any]]:
    """Cells whose methods were trained alike from all seeds; of a method's older recipes none."""
    for method in methods.METHODS:
        mine = [pair for pair in kept if pair[1]["method"] == method]
        if not mine:
            continue
        newest = max(mine, key=lambda pair: pair[1]["measured"])[0]
        same = [result for recipe, result in mine if _but_seed(recipe) == _but_seed(newest)]
        if len(same) < len(mine):
            left = sorted(result["seed"] for _, result in mine if result not in same)
            print(f"left out: {method} of seeds {left}, made with other settings than the newest one")
        yield from sorted(same, key=lambda result: result["seed"])


def _but_seed(recipe: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key != "seed"}
