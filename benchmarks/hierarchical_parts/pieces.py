# SPDX-License-Identifier: Apache-2.0
"""Everything that is measured on our trained policies: one result a policy and part."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierarchical_parts import budget, cells, data, nulling, safety, speed
from hierarchical_parts.commands import CommandError, Commands
from hierarchical_parts.settings import Settings, Task
from hierarchical_parts.store import Store, source_fingerprint


@dataclass(frozen=True)
class Piece:
    """One measurement.

    Args:
        name (`str`): Of its result.
        recipe (`dict`): What decides what it gives.
        work (`Callable[[], dict]`): Measures.
        about (`dict`): Goes into the result: task, seed.
    """

    name: str
    recipe: dict[str, Any]
    work: Callable[[], dict[str, Any]]
    about: dict[str, Any]


def run(parts: list[str], settings: Settings, store: Store) -> list[str]:
    """Measure what is not measured yet; gives what failed."""
    from lerobot_ext.cli.look import progress

    commands = Commands(settings.out / "logs", settings.nice)
    failures: list[str] = []
    for task in settings.tasks:
        data.record(task, settings, commands)
    with progress() as bar:
        for part in parts:
            line = bar.add_task(part, total=0)
            known = len(list(_pieces(part, settings, store, commands)))
            count = 0
            for piece in _pieces(part, settings, store, commands):
                count += 1
                bar.update(line, description=piece.name, total=max(count, known))
                if store.load(piece.name, piece.recipe) is None:
                    try:
                        store.save(piece.name, piece.recipe, piece.about | piece.work())
                    except CommandError as error:
                        failures.append(str(error))
                bar.advance(line)
            bar.update(line, description=part)
            if not count:
                failures.append(f"{part}: no trained policy of ours; run `--only success` first")
    return failures


def _pieces(part: str, settings: Settings, store: Store, commands: Commands) -> Iterator[Piece]:
    """What a part measures. Some of it is known only when other pieces are measured."""
    for task in settings.tasks:
        for cell, training in cells.ours_trained(task, settings, store):
            checkpoint = cell.checkpoint(settings, task.points[-1])
            made = _Maker(task, cell.seed, settings, training["id"])
            if part == "nulling":
                yield from _nulling(made, checkpoint)
            elif part == "safety":
                yield from _safety(made, checkpoint)
            elif part == "budget":
                yield from _budget(made, checkpoint, store, commands)
            elif cell.seed == settings.seeds[0]:
                yield from _speed(made, checkpoint)


@dataclass(frozen=True)
class _Maker:
    task: Task
    seed: int
    settings: Settings
    training: str

    def __call__(self, kind: str, work: Callable[[], dict[str, Any]], *more: str, **recipe: Any) -> Piece:
        name = ".".join((kind, self.task.name, f"seed{self.seed}", *more))
        full = {
            "training": self.training,
            "source": source_fingerprint("lerobot_policy_hierarchical_diffusion"),
            "held_out": self.task.held_out,
            "device": self.settings.device,
        } | recipe
        return Piece(name, full, work, {"task": self.task.name, "seed": self.seed})


def _nulling(made: _Maker, checkpoint: Path) -> Iterator[Piece]:
    task, settings = made.task, made.settings
    yield made("nulling", lambda: nulling.losses(checkpoint, task, settings), draws=settings.noise_draws)


def _safety(made: _Maker, checkpoint: Path) -> Iterator[Piece]:
    task, settings = made.task, made.settings
    yield made("detection", lambda: {"scores": safety.scores(checkpoint, task, settings)})
    first = cells.first_seed(made.seed)
    for side in ("on", "off"):

        def work(side: str = side) -> dict[str, Any]:
            found = safety.executed(checkpoint, task, settings, first, on=side == "on")
            return found | {"filter": side}

        yield made("filter", work, side, episodes=settings.episodes, noise=safety.NOISE)


def _budget(made: _Maker, checkpoint: Path, store: Store, commands: Commands) -> Iterator[Piece]:
    task, settings = made.task, made.settings
    name = f"{task.name}.seed{made.seed}"

    def latency() -> dict[str, Any]:
        store.forget(f"quality.{name}.*")  # what another table had chosen
        return budget.table(checkpoint, task, settings, commands, f"latency.{name}")

    table = made("latency", latency, plans=settings.plans)
    yield table
    measured = store.load(table.name, table.recipe)
    if measured is None:
        return
    yield made(
        "deadlines", lambda: {"plans": budget.deadlines(checkpoint, task, settings)}, plans=settings.plans
    )
    by_choice: dict[tuple[int, int], list[float]] = {}
    for ms, choice in budget.choices(measured).items():
        by_choice.setdefault(choice, []).append(ms)
    for (layers, steps), budgets in by_choice.items():

        def work(layers: int = layers, steps: int = steps, budgets: list[float] = budgets) -> dict[str, Any]:
            first = cells.first_seed(made.seed)
            found = budget.quality(checkpoint, task, settings, first, layers, steps)
            return {"layers": layers, "steps": steps, "budgets_ms": budgets, "successes": found}

        yield made(
            "quality",
            work,
            f"{layers}-{steps}",
            episodes=settings.episodes,
            choice=[layers, steps],
            ms=budgets,
        )


def _speed(made: _Maker, checkpoint: Path) -> Iterator[Piece]:
    task, settings = made.task, made.settings
    for threads in sorted({1, 1 if settings.quick else os.cpu_count() or 1}):

        def work(threads: int = threads) -> dict[str, Any]:
            return speed.chunks(checkpoint, task, settings, threads)

        yield made("speed", work, f"threads{threads}", plans=settings.plans)
