# SPDX-License-Identifier: Apache-2.0
"""Measure cells, some at a time, and keep each in a file: an interrupted benchmark goes on where it was."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from act_plus_parts.variants import Cell

FIRST_EPISODE = 10_000
"""Seeds of the evaluation; demonstrations have others."""


def measure(cell: Cell, out: Path, episodes: int) -> dict[str, Any]:
    """Play a cell's episodes with its trained policy."""
    import numpy as np
    import torch

    from act_plus_parts.playing import FPS, boundary_jerk, latencies_ms, play
    from act_plus_parts.training import load

    torch.set_num_threads(1)
    policy, before, after = load(cell.task, cell.variant, cell.seed, out / "policies")
    seeds = range(FIRST_EPISODE + 1000 * cell.seed, FIRST_EPISODE + 1000 * cell.seed + episodes)
    played = play(policy, before, after, cell.task, seeds, cell.mode, round(cell.delay_ms * FPS / 1000))
    jerk = boundary_jerk(played)
    latency = latencies_ms(policy, before, after, cell.task)
    return {
        **asdict(cell),
        "episodes": episodes,
        "successes": [episode.success for episode in played],
        "frames": [episode.frames for episode in played],
        "seams": len(jerk),
        "jerk_rms": float(np.sqrt((jerk**2).mean())) if len(jerk) else None,
        "jerk_p99": float(np.percentile(jerk, 99)) if len(jerk) else None,
        "latency_p50_ms": float(np.percentile(latency, 50)),
        "latency_p95_ms": float(np.percentile(latency, 95)),
    }


def _train(task: str, variant: str, seed: int, out: Path, scale: float) -> None:
    from act_plus_parts.training import trained

    trained(task, variant, seed, out / "policies", scale)


def _measure_into(cell: Cell, out: Path, episodes: int) -> None:
    file = out / "cells" / f"{cell.name}.json"
    result = measure(cell, out, episodes)
    partial = file.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(result), encoding="utf-8")
    os.replace(partial, file)


def run(wanted: Iterable[Cell], out: Path, episodes: int, jobs: int, scale: float) -> list[dict[str, Any]]:
    """Train what has to be trained and measure what has not been.

    Args:
        wanted (`Iterable[Cell]`): The cells.
        out (`Path`): Folder of policies and cells.
        episodes (`int`): Episodes a cell.
        jobs (`int`): Processes at a time, one thread each.
        scale (`float`): Share of the demonstrations and training steps.

    Returns:
        `list[dict]`: What is known of each cell, in order.

    Raises:
        ValueError: If a cell in `out` has other numbers of episodes.
    """
    from act_plus_parts.variants import VARIANTS

    wanted = list(wanted)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    files = {cell: out / "cells" / f"{cell.name}.json" for cell in wanted}
    missing = [cell for cell in wanted if not files[cell].exists()]
    trainings = dict.fromkeys((c.task, VARIANTS[c.variant].weights or c.variant, c.seed) for c in missing)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        _wait(
            {
                pool.submit(_train, *training, out, scale): " ".join(map(str, training))
                for training in trainings
            }
        )
        _wait({pool.submit(_measure_into, cell, out, episodes): cell.name for cell in missing})
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files.values()]
    other = [r for r in results if r["episodes"] != episodes]
    if other:
        raise ValueError(
            f"{out} holds cells of {other[0]['episodes']} episodes, not {episodes}; give another --out or "
            "remove it."
        )
    return results


def _wait(futures: dict[Future[None], str]) -> None:
    for number, future in enumerate(as_completed(futures), start=1):
        future.result()
        print(f"[{number}/{len(futures)}] {futures[future]}", file=sys.stderr, flush=True)
