# SPDX-License-Identifier: Apache-2.0
"""Draws runs: one panel a metric, success over the steps, success bars with their intervals."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lerobot_ext.intervals import wilson_interval
from lerobot_ext.training.plot.runs import Run, smooth

_X_LABELS = {"step": "step", "time": "hours", "epoch": "epoch", "samples": "samples"}
_EXACT = ("lr",)  # nothing to smooth
_PANEL = (5.2, 3.5)  # inches


@dataclass(frozen=True)
class Look:
    """How to draw.

    Args:
        metrics (`tuple[str, ...]`): A panel each.
        x (`str`): `step`, `time`, `epoch` or `samples`.
        smoothing (`float`): Weight of what came before, in [0, 1).
        log (`bool`): Logarithmic metrics.
    """

    metrics: tuple[str, ...]
    x: str = "step"
    smoothing: float = 0.0
    log: bool = False


def draw(runs: list[Run], look: Look) -> Any:
    """A matplotlib figure of `runs`: no window, no global state."""
    from matplotlib.figure import Figure

    painters: list[Callable[[Any], None]] = [
        partial(_draw_metric, runs=runs, metric=metric, look=look) for metric in look.metrics
    ]
    if any(run.successes() for run in runs):
        painters.append(partial(_draw_success_curves, runs=runs))
    if any(run.final_evaluations() for run in runs):
        painters.append(partial(_draw_bars, runs=runs))
    columns = min(3, len(painters))
    lines = math.ceil(len(painters) / columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for axis, paint in zip(axes, painters, strict=False):
        paint(axis)
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    for axis in axes[len(painters) :]:
        axis.set_axis_off()
    return figure


def _colour(index: int) -> str:
    return f"C{index % 10}"


def _draw_metric(axis: Any, runs: list[Run], metric: str, look: Look) -> None:
    for index, run in enumerate(runs):
        at, values = run.curve(metric, look.x)
        if not at:
            continue
        one_point = "o" if len(at) == 1 else None
        weight = 0.0 if metric in _EXACT else look.smoothing
        if weight:
            axis.plot(at, values, color=_colour(index), alpha=0.25, linewidth=1)
        axis.plot(at, smooth(values, weight), color=_colour(index), label=_plain(run.name), marker=one_point)
    axis.set(xlabel=_X_LABELS[look.x], title=_plain(metric), yscale="log" if look.log else "linear")
    axis.legend(fontsize=8)


def _draw_success_curves(axis: Any, runs: list[Run]) -> None:
    for index, run in enumerate(runs):
        points = run.successes()
        if not points:
            continue
        steps = [step for step, _, _ in points]
        rates = [100 * successes / episodes for _, successes, episodes in points]
        bounds = [wilson_interval(successes, episodes) for _, successes, episodes in points]
        axis.plot(steps, rates, color=_colour(index), marker="o", markersize=4, label=_plain(run.name))
        low, high = ([100 * pair[side] for pair in bounds] for side in (0, 1))
        axis.fill_between(steps, low, high, color=_colour(index), alpha=0.15, linewidth=0)
    axis.set(ylim=(0, 100), xlabel="step", title="success in the environment, % (95 % interval)")
    axis.legend(fontsize=8)


def _draw_bars(axis: Any, runs: list[Run]) -> None:
    bars = [(index, run, entry) for index, run in enumerate(runs) for entry in run.final_evaluations()]
    rates = [100 * entry.successes / entry.episodes for _, _, entry in bars]
    bounds = [wilson_interval(entry.successes, entry.episodes) for _, _, entry in bars]
    # At 0 and 1 the interval's end is the rate itself, up to rounding.
    below = [max(0.0, rate - 100 * low) for rate, (low, _) in zip(rates, bounds, strict=True)]
    above = [max(0.0, 100 * high - rate) for rate, (_, high) in zip(rates, bounds, strict=True)]
    axis.barh(
        range(len(bars)),
        rates,
        xerr=[below, above],
        color=[_colour(index) for index, _, _ in bars],
        alpha=0.7,
        capsize=4,
    )
    names = [_plain(f"{run.name}\n{entry.task} ({entry.episodes})") for _, run, entry in bars]
    axis.set_yticks(range(len(bars)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), title="success, % (episodes; 95 % interval)")


def _plain(text: str) -> str:
    """A name as it is: matplotlib would set what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")
