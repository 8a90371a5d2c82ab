# SPDX-License-Identifier: Apache-2.0
"""Measure cells, some at a time, and keep each in a file: an interrupted benchmark goes on where it was."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from hierarchical_parts.store import Store

from act_plus_parts.variants import SETTINGS, VARIANTS, Cell, recipe

FIRST_EPISODE = 10_000
"""Seeds of the evaluation; demonstrations have others."""


def measure(cell: Cell, out: Path, episodes: int) -> dict[str, Any]:
    """Play a cell's episodes with its trained policy."""
    import numpy as np
    import torch

    from act_plus_parts.demonstrations import make_env
    from act_plus_parts.playing import FPS, boundary_jerk, latencies_ms, play
    from act_plus_parts.training import load

    torch.set_num_threads(1)
    policy, before, after = load(cell.task, cell.variant, cell.seed, out / "policies")
    setting = SETTINGS[cell.task]
    env = partial(make_env, setting.task, setting.belt_m_s, setting.picture)
    seeds = range(FIRST_EPISODE + 1000 * cell.seed, FIRST_EPISODE + 1000 * cell.seed + episodes)
    played = play(policy, before, after, env, seeds, cell.mode, round(cell.delay_ms * FPS / 1000))
    jerk = boundary_jerk(played)
    latency = latencies_ms(policy, before, after, env)
    return {
        **asdict(cell),
        "episodes": episodes,
        "successes": [episode.success for episode in played],
        "frames": [episode.frames for episode in played],
        "jerk": [round(float(value)) for value in jerk],
        "latency_p50_ms": float(np.percentile(latency, 50)),
        "latency_p95_ms": float(np.percentile(latency, 95)),
        "measured": datetime.now().isoformat(timespec="seconds"),
    }


def cell_recipe(cell: Cell, episodes: int, scale: float) -> dict[str, Any]:
    """All that decides what a cell gives, but for the code."""
    return {
        "trained": recipe(cell.task, VARIANTS[cell.variant].weights or cell.variant, cell.seed),
        "flags": VARIANTS[cell.variant].flags,
        "mode": cell.mode,
        "delay_ms": cell.delay_ms,
        "episodes": episodes,
        "first_episode": FIRST_EPISODE,
        "seams": "from chunk to chunk",
        "scale": scale,
    }


def _train(task: str, variant: str, seed: int, out: Path, scale: float) -> None:
    from act_plus_parts.training import trained

    trained(task, variant, seed, out / "policies", scale)


def _measure_into(cell: Cell, out: Path, episodes: int, scale: float) -> None:
    result = measure(cell, out, episodes)
    Store(out / "cells").save(cell.name, cell_recipe(cell, episodes, scale), result)


def found(wanted: Iterable[Cell], out: Path, episodes: int, scale: float) -> dict[Cell, dict[str, Any]]:
    """What is known of the cells that were measured so, in order."""
    store = Store(out / "cells")
    loaded = {cell: store.load(cell.name, cell_recipe(cell, episodes, scale)) for cell in wanted}
    return {cell: result for cell, result in loaded.items() if result is not None}


def run(wanted: Iterable[Cell], out: Path, episodes: int, jobs: int, scale: float) -> None:
    """Train what has to be trained and measure what has not been, one task and seed after the other.

    Args:
        wanted (`Iterable[Cell]`): The cells.
        out (`Path`): Folder of policies and cells.
        episodes (`int`): Episodes a cell.
        jobs (`int`): Processes at a time, one thread each.
        scale (`float`): Share of the demonstrations and training steps.
    """
    wanted = list(wanted)
    known = found(wanted, out, episodes, scale)
    missing = [cell for cell in wanted if cell not in known]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for task, seed in dict.fromkeys((cell.task, cell.seed) for cell in missing):
            mine = [cell for cell in missing if (cell.task, cell.seed) == (task, seed)]
            sources = dict.fromkeys(VARIANTS[cell.variant].weights or cell.variant for cell in mine)
            _wait({pool.submit(_train, task, name, seed, out, scale): name for name in sources}, task, seed)
            _wait(
                {pool.submit(_measure_into, cell, out, episodes, scale): cell.name for cell in mine},
                task,
                seed,
            )


def _wait(futures: dict[Future[None], str], task: str, seed: int) -> None:
    for number, future in enumerate(as_completed(futures), start=1):
        future.result()
        print(f"{task}, seed {seed} [{number}/{len(futures)}] {futures[future]}", file=sys.stderr, flush=True)
