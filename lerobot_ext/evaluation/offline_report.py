# SPDX-License-Identifier: Apache-2.0
"""Writes an offline evaluation: tables for people, `offline_eval.json`, `.csv`, pictures, one HTML page."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from lerobot_ext.cli.command import CommandError
from lerobot_ext.evaluation.offline import CHUNK, SELECT, Evaluation
from lerobot_ext.intervals import Estimate

STEM: Final = "offline_eval"
_CSV: Final = (
    *("predictor", "mode", "task", "horizon_step", "joint", "n"),
    *("mse", "mse_low", "mse_high", "l1", "l1_low", "l1_high", "max"),
)


class Table(NamedTuple):
    """A table for people.

    Args:
        title (`str`): Heading.
        columns (`list[str]`), rows (`list[list[str]]`): Its cells.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]


def tables(found: Evaluation) -> list[Table]:
    """The tables that the terminal and the page show."""
    made = []
    for mode in found.modes:
        made += [_whole(found, mode), _by_joint(found, mode)]
        if next(iter(found.predictors(mode).values())).by_task:
            made.append(_by_task(found, mode))
    return [*made, *_others(found)]


def _heading(found: Evaluation, mode: str) -> str:
    if mode == SELECT:
        return "select_action, frame by frame"
    return f"predict_action_chunk each {found.plan.every} frames, its first {found.horizon} steps"


def _whole(found: Evaluation, mode: str) -> Table:
    rows = [
        [name, estimate_text(errors.whole.mse), estimate_text(errors.whole.l1), _number(errors.whole.max)]
        for name, errors in found.predictors(mode).items()
    ]
    return Table(_heading(found, mode), ["predictor", "MSE (95 %)", "L1 (95 %)", "max error"], rows)


def _by_joint(found: Evaluation, mode: str) -> Table:
    predictors = found.predictors(mode)
    rows = [
        [joint, *(estimate_text(errors.whole.joint_l1[place]) for errors in predictors.values())]
        for place, joint in enumerate(found.recordings.joints)
    ]
    return Table(f"L1 by joint, {mode}", ["joint", *predictors], rows)


def _by_task(found: Evaluation, mode: str) -> Table:
    predictors = found.predictors(mode)
    tasks = next(iter(predictors.values())).by_task
    rows = [
        [task, *(estimate_text(errors.by_task[task].mse) for errors in predictors.values())] for task in tasks
    ]
    return Table(f"MSE by task, {mode}", ["task", *predictors], rows)


def _others(found: Evaluation) -> Iterator[Table]:
    """Smoothness and latency."""
    rows, times = [], []
    for policy in found.policies:
        for name, mode in policy.modes.items():
            if mode.smoothness is not None:
                even = mode.smoothness
                numbers = (even.jerk, even.recorded_jerk, even.seam, even.recorded_seam, even.inside)
                cells = [_number(value) for value in numbers]
                rows.append([policy.name, name, *cells[:2], str(even.boundaries), *cells[2:]])
            for call, spent in mode.latency.items():
                times.append(
                    [
                        policy.name,
                        call,
                        f"{spent.p50_ms:.2f}",
                        f"{spent.p95_ms:.2f}",
                        str(spent.calls),
                        str(spent.batch_size),
                    ]
                )
    if rows:
        columns = [
            "policy",
            "mode",
            "jerk /s³",
            "recorded",
            "seams",
            "step at seams",
            "recorded",
            "elsewhere",
        ]
        yield Table("smoothness: root mean squares in the dataset's units", columns, rows)
    if times:
        columns = ["policy", "call", "p50 ms", "p95 ms", "calls", "batch"]
        yield Table("latency, with both processors", columns, times)


def estimate_text(estimate: Estimate) -> str:
    """A figure with its interval."""
    if estimate.low is None or estimate.high is None:
        return _number(estimate.value)
    return f"{_number(estimate.value)} ({_number(estimate.low)} to {_number(estimate.high)})"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def write(found: Evaluation, facts: dict[str, Any], out: Path, *, pictures: bool) -> list[Path]:
    """Write all files.

    Args:
        found (`Evaluation`): What came of it.
        facts (`dict`): What `offline_eval.json` says.
        out (`Path`): Their folder, made where there is none.
        pictures (`bool`): Whether to draw PNGs, and the page around them.

    Raises:
        CommandError: The folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        written = [out / f"{STEM}.json", out / f"{STEM}.csv"]
        written[0].write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        with open(written[1], "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_CSV)
            writer.writerows(_csv_rows(found))
        if pictures:
            written += _draw(found, facts, out)
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error}", "name another folder with --out") from None
    return written


def _csv_rows(found: Evaluation) -> Iterator[list[Any]]:
    """A row a joint: of the whole, of each task, and of each step of a chunk; `all` for what is not split."""
    for mode in found.modes:
        for name, errors in found.predictors(mode).items():
            parts = [("all", "all", errors.whole)]
            parts += [(task, "all", summary) for task, summary in errors.by_task.items()]
            if mode == CHUNK:
                parts += [("all", str(step), summary) for step, summary in enumerate(errors.by_horizon)]
            for task, step, summary in parts:
                for place, joint in enumerate(found.recordings.joints):
                    mse, l1 = summary.joint_mse[place], summary.joint_l1[place]
                    yield [
                        *(name, mode, task, step, joint, summary.n),
                        *(mse.value, mse.low, mse.high, l1.value, l1.low, l1.high, summary.joint_max[place]),
                    ]


def _draw(found: Evaluation, facts: dict[str, Any], out: Path) -> list[Path]:
    from lerobot_ext.evaluation.offline_figures import draw_all
    from lerobot_ext.training.plot.page import document, drawing, grid, heading, paragraph

    figures = draw_all(found)
    paths = []
    for name, figure in figures.items():
        paths.append(out / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
    parts = [paragraph(headline(found, facts))]
    for table in tables(found):
        parts += [heading(table.title), grid(table.columns, table.rows)]
    parts += [drawing(figure) for figure in figures.values()]
    parts += [paragraph(f"{policy.name}: {note}") for policy in found.policies for note in policy.notes]
    paths.append(out / f"{STEM}.html")
    title = "Offline evaluation: " + ", ".join(policy.name for policy in found.policies)
    paths[-1].write_text(document(title, parts), encoding="utf-8")
    return paths


def headline(found: Evaluation, facts: dict[str, Any]) -> str:
    """What was evaluated, in one line."""
    count = len(found.recordings.episodes)
    return (
        f"{count} episode{'' if count == 1 else 's'} ({found.recordings.n_frames} frames) of "
        f"{facts['dataset']}, in its own units, seed {found.plan.seed}"
    )
