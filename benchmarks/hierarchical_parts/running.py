# SPDX-License-Identifier: Apache-2.0
"""Trains and evaluates all cells, some side by side, and says how far it has come."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from hierarchical_parts import cells, data
from hierarchical_parts.commands import Commands
from hierarchical_parts.settings import Settings
from hierarchical_parts.side_by_side import side_by_side
from hierarchical_parts.store import Store

_START_S = 15.0
"""What a stock command takes to start."""
_STEP_S, _EPISODE_S = 0.1, 0.3
"""What a step of a training and an evaluated episode take, until some were seen."""


class Pace:
    """How long work takes, from work of the same kind, and so how long what is left will take."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], list[float]] = {}

    def saw(self, kind: tuple[str, ...], seconds: float) -> None:
        """Take in what a piece of work took."""
        self._seen.setdefault(kind, []).append(seconds)

    def expects(self, kind: tuple[str, ...], otherwise: float) -> float:
        """Seconds of a piece of work: the mean of its kind, or a guess."""
        seen = self._seen.get(kind)
        return sum(seen) / len(seen) if seen else otherwise


def remaining(settings: Settings, store: Store, every: list[cells.Cell], pace: Pace) -> tuple[int, float]:
    """Pieces of work that are not done, and how many seconds they take one after the other."""
    pieces, seconds = 0, 0.0
    for cell in every:
        training = cells.trained(cell, settings, store)
        kind = ("train", cell.task.name, cell.method)
        if training is None:
            pieces += 1
            seconds += pace.expects(kind, _START_S + _STEP_S * cell.task.points[-1])
        else:
            pace.saw(kind, training["wall_s"])
        for what in cells.evaluations(cell, settings):
            kind = ("eval", cell.task.name, cell.method, what.variant)
            recipe = training and cells.evaluation_recipe(what, settings, training)
            found = store.load(f"success.{what.name}", recipe) if recipe else None
            if found is None:
                pieces += 1
                seconds += pace.expects(kind, _START_S + _EPISODE_S * settings.episodes)
            else:
                pace.saw(kind, found["wall_s"])
    return pieces, seconds


def run(settings: Settings, store: Store, jobs: int) -> list[str]:
    """Do what is not done yet.

    Returns:
        `list[str]`: What failed, with the reason; the rest is done.
    """
    from lerobot_ext.cli.look import progress

    commands = Commands(settings.out / "logs", settings.nice)
    for task in settings.tasks:
        data.record(task, settings, commands)
    every = cells.cells(settings)
    pieces, _ = remaining(settings, store, every, Pace())
    if not pieces:
        return []
    with progress() as bar:
        line = bar.add_task("", total=pieces)

        def say(now: str = "") -> None:
            left, seconds = remaining(settings, store, every, Pace())
            bar.update(line, completed=pieces - left, description=f"{_ago(seconds / jobs)} left  {now}")

        def work(cell: cells.Cell) -> None:
            say(f"training {cell.name}")
            training: dict[str, Any] = cells.train(cell, settings, store, commands)
            for what in cells.evaluations(cell, settings):
                say(f"evaluating {what.name}")
                cells.evaluate(what, settings, store, commands, training)
            say()

        return side_by_side([partial(work, cell) for cell in every], jobs, commands)


def _ago(seconds: float) -> str:
    return (
        time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds < 86400 else f"{seconds / 86400:.1f} days"
    )
