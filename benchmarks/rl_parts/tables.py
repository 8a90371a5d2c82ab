# SPDX-License-Identifier: Apache-2.0
"""Success with 95 % Wilson intervals, as tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lerobot_ext.intervals import wilson_interval
from rl_parts.methods import CLONING, METHODS

Row = dict[str, Any]
Cells = Sequence[dict[str, Any]]


def rate(cells: Cells) -> Row:
    """Success over all seeds together with its interval, and by seed; in per cent."""
    successes, trials = (sum(cell[key] for cell in cells) for key in ("successes", "episodes"))
    low, high = wilson_interval(successes, trials)
    return {
        "success": 100 * successes / trials,
        "low": 100 * low,
        "high": 100 * high,
        "trials": trials,
        "by_seed": [100 * cell["successes"] / cell["episodes"] for cell in cells],
    }


def by_method(cells: Cells) -> dict[str, Row]:
    """The rate of each method, and the mean seconds of its trainings."""
    found = {}
    for method in dict.fromkeys(cell["method"] for cell in cells):
        mine = sorted((cell for cell in cells if cell["method"] == method), key=lambda cell: cell["seed"])
        found[method] = {**rate(mine), "train_s": sum(cell["train_s"] for cell in mine) / len(mine)}
    return found


def by_stage(cells: Cells) -> dict[tuple[str, str], dict[str, Row]]:
    """The rates before and after learning online, of each method and task."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for method, task in dict.fromkeys((cell["method"], cell["task"]) for cell in cells):
        mine = [cell for cell in cells if (cell["method"], cell["task"]) == (method, task)]
        mine.sort(key=lambda cell: cell["seed"])
        found[method, task] = {stage: rate([cell[stage] for cell in mine]) for stage in ("offline", "online")}
    return found


def order(one: Row, other: Row) -> int:
    """1 where the first is better beyond both intervals, -1 where the other is, else 0."""
    return int(one["low"] > other["high"]) - int(other["low"] > one["high"])


# ---- offline


def offline_table(found: dict[str, Row]) -> str:
    """The rates of methods, the best first."""
    lines = ["| method | success | 95 % interval | by seed | training, s |", "|---|---|---|---|---|"]
    for method, row in sorted(found.items(), key=lambda item: -item[1]["success"]):
        lines.append(f"| {METHODS[method].title} | {_rate(row)} | {row['train_s']:.0f} |")
    return "\n".join(lines)


def against(found: dict[str, Row], mine: str) -> list[str]:
    """A sentence on a method beside each other one."""
    if mine not in found:
        return []
    me, said = METHODS[mine].title, []
    for method, row in found.items():
        if method == mine:
            continue
        points, title = found[mine]["success"] - row["success"], METHODS[method].title
        which = order(found[mine], row)
        if which:
            word = "wins against" if which > 0 else "loses to"
            said.append(f"{me} {word} {title} by {abs(points):.0f} points.")
        else:
            said.append(f"{me} and {title} are not apart by their intervals ({points:+.0f} points).")
    return said


def offline_verdict(found: dict[str, Row]) -> str:
    """One line on what learns values against cloning by the same networks."""
    parts = []
    for mine, cloning in CLONING.items():
        if not {mine, cloning} <= set(found):
            continue
        one, other = found[mine], found[cloning]
        word = {1: "wins", 0: "not apart by their intervals", -1: "loses"}[order(one, other)]
        parts.append(
            f"{mine} {one['success']:.1f} % against {cloning} {other['success']:.1f} %: "
            f"{'LAPO' if mine == 'lapo' else 'Q-chunking'} {word}"
        )
    return "; ".join(parts) or f"{len(found)} methods compared"


# ---- online


def online_table(found: dict[tuple[str, str], dict[str, Row]]) -> str:
    """The rates before and after learning online."""
    lines = ["| policy | task | | success | 95 % interval | by seed |", "|---|---|---|---|---|---|"]
    for (method, task), stages in found.items():
        for stage, row in stages.items():
            lines.append(f"| {METHODS[method].title} | {task} | {stage} | {_rate(row)} |")
    return "\n".join(lines)


def online_verdict(found: dict[tuple[str, str], dict[str, Row]]) -> list[str]:
    """A line on each method and task."""
    words = {
        1: "better beyond both intervals",
        0: "not apart by their intervals",
        -1: "WORSE beyond both intervals",
    }
    several = len({method for method, _ in found}) > 1
    return [
        f"{f'{method} ' if several else ''}{task}: offline {stages['offline']['success']:.1f} %, online "
        f"{stages['online']['success']:.1f} %: {words[order(stages['online'], stages['offline'])]}"
        for (method, task), stages in found.items()
    ]


def _rate(row: Row) -> str:
    seeds = ", ".join(f"{value:.0f}" for value in row["by_seed"])
    return f"{row['success']:.1f} % | {row['low']:.0f} to {row['high']:.0f} % | {seeds}"
