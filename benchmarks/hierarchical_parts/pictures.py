# SPDX-License-Identifier: Apache-2.0
"""Curves of the success, and bars with intervals of the rest, in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hierarchical_parts.report import title
from hierarchical_parts.settings import OURS


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw what there is; nothing if there is nothing."""
    from matplotlib.figure import Figure

    panels = [(_curves, f"{task}: success, %", methods) for task, methods in found["success"].items()]
    panels += [
        (_rises, f"{task}: rise of L_diff, %", rows["rise"]) for task, rows in found["nulling"].items()
    ]
    panels += [(_areas, f"{task}: AUROC", rows["auroc"]) for task, rows in found["detection"].items()]
    panels += [(_budgets, f"{task}: success, % by budget", rows) for task, rows in found["budget"].items()]
    if not panels:
        return
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (paint, name, content) in zip(axes, panels, strict=False):
        paint(axis, content)
        axis.set_title(name, size=10)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=110)


_COLOURS = ("ours", "flat", "stock", "stock.ddim10", "curriculum", "stock_default")


def _curves(axis: Any, methods: dict[str, Any]) -> None:
    ticks: list[int] = []
    for name, method in sorted(methods.items(), key=lambda item: (item[0] != OURS, item[0])):
        points = method["points"]
        steps = [int(step) for step in points]
        rates = [100 * point["rate"] for point in points.values()]
        below = [100 * (point["rate"] - point["low"]) for point in points.values()]
        above = [100 * (point["high"] - point["rate"]) for point in points.values()]
        axis.errorbar(
            steps,
            rates,
            yerr=[below, above],
            marker="o",
            capsize=3,
            label=title(name),
            color=f"C{_COLOURS.index(name)}",
        )
        ticks = sorted({*ticks, *steps})
    axis.set(xlabel="training steps", ylim=(-3, 103), xticks=ticks)
    axis.legend(fontsize=7)


def _rises(axis: Any, rises: dict[str, Any]) -> None:
    # Ten times as far out as the rest, which would be flat lines beside it; the table has it.
    rises = {name: rise for name, rise in rises.items() if name != "without any layer"}
    values = [100 * rise["value"] for rise in rises.values()]
    axis.barh(list(rises), values, xerr=_errors(rises, 100), capsize=3)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.invert_yaxis()
    axis.tick_params(labelsize=7)


def _areas(axis: Any, areas: dict[str, Any]) -> None:
    axis.bar(list(areas), [area["value"] for area in areas.values()], yerr=_errors(areas, 1), capsize=3)
    axis.axhline(0.9, color="black", linewidth=0.8, linestyle="--")
    axis.set_ylim(0.4, 1.02)


def _budgets(axis: Any, rows: dict[str, Any]) -> None:
    known = {float(ms): row["success"] for ms, row in rows.items() if "success" in row}
    budgets = sorted(known)
    rates = [100 * known[ms]["rate"] for ms in budgets]
    below = [100 * (known[ms]["rate"] - known[ms]["low"]) for ms in budgets]
    above = [100 * (known[ms]["high"] - known[ms]["rate"]) for ms in budgets]
    axis.errorbar(budgets, rates, yerr=[below, above], marker="o", capsize=3)
    axis.set(xlabel="ms", xscale="log", ylim=(-3, 103))


def _errors(rows: dict[str, Any], factor: float) -> list[list[float]]:
    """Distances of the interval's ends from the value; a bootstrap may put an end beyond it by a hair."""
    return [
        [factor * max(0.0, row["value"] - row["low"]) for row in rows.values()],
        [factor * max(0.0, row["high"] - row["value"]) for row in rows.values()],
    ]
