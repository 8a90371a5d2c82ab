# SPDX-License-Identifier: Apache-2.0
"""Bars of success rates and of times, and success curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_parts.methods import METHODS


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def success_bars(found: dict[str, dict[str, Any]], title: str, path: Path) -> None:
    """Draw the rates of methods with their intervals, and a point for each seed."""
    order = sorted(found, key=lambda method: -found[method]["success"])
    rows = [found[method] for method in order]
    errors = [[row["success"] - row["low"] for row in rows], [row["high"] - row["success"] for row in rows]]
    figure = _figure(7, 0.4 * len(rows) + 1.2)
    axis = figure.subplots()
    names = [METHODS[method].title.replace("`", "") for method in order]
    axis.barh(names, [row["success"] for row in rows], xerr=errors, capsize=3)
    for y, row in enumerate(rows):
        axis.plot(row["by_seed"], [y] * len(row["by_seed"]), "k.", markersize=4)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="success, %", title=title)
    figure.savefig(path, dpi=110)


def success_curves(cells: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the success of all cells by steps of the environment, a picture a task and method."""
    pairs = list(dict.fromkeys((cell["task"], cell["method"]) for cell in cells))
    figure = _figure(5 * len(pairs), 3.4)
    axes = figure.subplots(1, len(pairs), squeeze=False)
    for axis, pair in zip(axes[0], pairs, strict=True):
        for cell in (cell for cell in cells if (cell["task"], cell["method"]) == pair):
            steps, rates = zip(*cell["online"]["curve"], strict=True)
            axis.plot(steps, rates, marker="o", markersize=3, label=f"seed {cell['seed']}")
        task, method = pair
        axis.set(
            ylim=(0, 100),
            xlabel="steps of the environment",
            ylabel="success, %",
            title=f"{task}, {METHODS[method].title.replace('`', '')}",
        )
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def ratio_bars(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw what each row costs, as a multiple of what it is measured against, beside its target."""
    figure = _figure(7, 0.4 * len(rows) + 1.2)
    axis = figure.subplots()
    axis.barh([row["what"] for row in rows], [row["ratio"] for row in rows])
    for y, row in enumerate(rows):
        if row["target"] is not None:
            axis.plot([row["target"]] * 2, [y - 0.4, y + 0.4], "k--", linewidth=1)
    axis.axvline(1.0, color="gray", linewidth=0.8)
    axis.invert_yaxis()
    axis.set(xlabel="times of what it is measured against; dashed: the target")
    figure.savefig(path, dpi=110)
