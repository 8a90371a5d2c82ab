# SPDX-License-Identifier: Apache-2.0
"""Tables and pictures of the cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lerobot_ext.intervals import wilson_interval

Row = dict[str, Any]


def pooled(cells: Sequence[Row]) -> list[Row]:
    """One row for each task, variant, mode and delay, over the seeds.

    Success has a Wilson interval over all episodes; jerk is pooled by seams.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for cell in cells:
        groups.setdefault((cell["task"], cell["variant"], cell["mode"], cell["delay_ms"]), []).append(cell)
    rows = []
    for (task, variant, mode, delay), group in groups.items():
        done = [success for cell in group for success in cell["successes"]]
        low, high = wilson_interval(sum(done), len(done))
        seams = sum(cell["seams"] for cell in group)
        squares = sum(cell["seams"] * (cell["jerk_rms"] or 0) ** 2 for cell in group)
        p99 = [cell["jerk_p99"] for cell in group if cell["jerk_p99"] is not None]
        rows.append(
            {
                "task": task,
                "variant": variant,
                "mode": mode,
                "delay_ms": delay,
                "seeds": len(group),
                "episodes": len(done),
                "success": sum(done) / len(done),
                "low": low,
                "high": high,
                "by_seed": [sum(cell["successes"]) / len(cell["successes"]) for cell in group],
                "frames": sum(sum(cell["frames"]) for cell in group) / len(done),
                "seams": seams,
                "jerk_rms": math.sqrt(squares / seams) if seams else None,
                "jerk_p99": sum(p99) / len(p99) if p99 else None,
                "latency_p50_ms": sorted(cell["latency_p50_ms"] for cell in group)[len(group) // 2],
                "latency_p95_ms": sorted(cell["latency_p95_ms"] for cell in group)[len(group) // 2],
            }
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| task | policy | loop | delay | success [95 %] | frames | boundary jerk rms | p99 | ms an action "
        "p50 | p95 |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        jerk = (f"{row[key]:,.0f}" if row[key] is not None else "-" for key in ("jerk_rms", "jerk_p99"))
        lines.append(
            f"| {row['task']} | {row['variant']} | {row['mode']} | {row['delay_ms']} ms "
            f"| {100 * row['success']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}] "
            f"| {row['frames']:.0f} | {' | '.join(jerk)} "
            f"| {row['latency_p50_ms']:.1f} | {row['latency_p95_ms']:.1f} |"
        )
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> str:
    """One line: what real-time chunking does at the longest delay, and who solves the other tasks."""
    found = {(r["task"], r["variant"], r["mode"], r["delay_ms"]): r for r in rows}
    parts = []
    ours, theirs = (found.get(("lift", name, "rtc", 300)) for name in ("act_rtc", "ACT (stock)"))
    if ours and theirs:
        parts.append(
            f"at 300 ms act_rtc {100 * ours['success']:.0f} %, stock ACT {100 * theirs['success']:.0f} %"
        )
        if ours["jerk_rms"] and theirs["jerk_rms"]:
            parts.append(f"boundary jerk {theirs['jerk_rms'] / ours['jerk_rms']:.1f} times lower")
    for task, name in (("choose", "act_language"), ("either", "act_flow")):
        ours, theirs = (found.get((task, each, "sync", 0)) for each in (name, "ACT (stock)"))
        if ours and theirs:
            parts.append(
                f"{task}: {name} {100 * ours['success']:.0f} %, stock ACT {100 * theirs['success']:.0f} %"
            )
    return "; ".join(parts) or "nothing to sum up"


def picture(rows: Sequence[Row], file: Path) -> None:
    """Success and boundary jerk against the delay, and the two other tasks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(13, 8.5), layout="constrained")
    variants = list(dict.fromkeys(r["variant"] for r in rows if r["task"] == "lift"))
    for column, mode in enumerate(("sync", "rtc")):
        for variant in variants:
            chosen = [r for r in rows if (r["task"], r["variant"], r["mode"]) == ("lift", variant, mode)]
            delays = [r["delay_ms"] for r in chosen]
            success = [100 * r["success"] for r in chosen]
            errors = [
                [100 * (r["success"] - r["low"]) for r in chosen],
                [100 * (r["high"] - r["success"]) for r in chosen],
            ]
            axes[0][column].errorbar(delays, success, yerr=errors, marker="o", capsize=3, label=variant)
            jerk = [r["jerk_rms"] if r["jerk_rms"] else math.nan for r in chosen]
            axes[1][column].plot(delays, jerk, marker="o", label=variant)
        axes[0][column].set(title=f"lift, {mode}", ylabel="success, %", xlabel="delay, ms", ylim=(-3, 103))
        axes[1][column].set(ylabel="boundary jerk, rms, units/s³", xlabel="delay, ms", yscale="log")
    axes[0][0].legend(fontsize=8)
    figure.savefig(file, dpi=110)
    plt.close(figure)
