# SPDX-License-Identifier: Apache-2.0
"""Tables, sentences and the picture of the cells."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rl_parts.blocks import days

from act_plus_parts.variants import MODES, SETTINGS
from lerobot_ext.intervals import wilson_interval

Row = dict[str, Any]
Way = tuple[str, int]
Key = tuple[str, str, str, int]
BLOCK = "results"
STOCK = "ACT (stock)"
HEADS = {"sync": "waits", "rtc": "goes on"}


def pooled(cells: Sequence[Row]) -> list[Row]:
    """One row for each task, variant, mode and delay, over the seeds.

    Success has a Wilson interval over all episodes; jerk is that of all seams.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for cell in cells:
        groups.setdefault((cell["task"], cell["variant"], cell["mode"], cell["delay_ms"]), []).append(cell)
    rows = []
    for (task, variant, mode, delay), group in groups.items():
        done = [success for cell in group for success in cell["successes"]]
        low, high = wilson_interval(sum(done), len(done))
        jerk = np.array([value for cell in group for value in cell["jerk"]])
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
                "seams": len(jerk),
                "jerk_rms": float(np.sqrt((jerk**2).mean())) if len(jerk) else None,
                "jerk_p99": float(np.percentile(jerk, 99)) if len(jerk) else None,
                "latency_p50_ms": statistics.median(cell["latency_p50_ms"] for cell in group),
                "latency_p95_ms": statistics.median(cell["latency_p95_ms"] for cell in group),
                "measured": days(cell["measured"] for cell in group),
            }
        )
    return rows


def completed(rows: Sequence[Row], earlier: Sequence[Row], wanted: Iterable[Key]) -> list[Row]:
    """Rows measured now, and of the wanted ones that were not, those of an earlier run; in the wanted order.

    Args:
        rows (`Sequence[Row]`): Measured now.
        earlier (`Sequence[Row]`): Of an earlier run, each with the day when it was `measured`.
        wanted (`Iterable[Key]`): Task, variant, mode and delay of all rows that there should be.
    """
    known = {**_index(earlier), **_index(rows)}
    return [known[key] for key in dict.fromkeys(wanted) if key in known]


def tables(rows: Sequence[Row]) -> str:
    """What was found on each task, as Markdown."""
    parts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        delays = SETTINGS[task].delays_ms
        parts.append(_by_delay(task, mine, delays) if delays else _plain(task, mine))
    return "\n\n".join(parts)


def _plain(task: str, rows: Sequence[Row]) -> str:
    lines = [f"| `{task}` | success [95 %] | by seed | ms an action, p50 | p95 |", "|---|--:|---|--:|--:|"]
    for row in rows:
        by_seed = ", ".join(f"{100 * share:.0f}" for share in row["by_seed"])
        times = f"{row['latency_p50_ms']:.1f} | {row['latency_p95_ms']:.1f}"
        lines.append(f"| {row['variant']} | {_success(row)} | {by_seed} | {times} |")
    return "\n".join(lines)


def _by_delay(task: str, rows: Sequence[Row], delays: Sequence[int]) -> str:
    """Success, and jerk with latency, by loop and delay."""
    ways = [(mode, delay) for mode in MODES for delay in delays]
    heads = " | ".join(f"{HEADS[mode]}, {delay} ms" for mode, delay in ways)
    success = [f"| `{task}`: success [95 %] | {heads} |", "|---|" + "--:|" * len(ways)]
    jerk = [
        f"| `{task}`: boundary jerk, rms / p99, 1000 units/s³ | {heads} | ms an action, p50 / p95 |",
        "|---|" + "--:|" * (len(ways) + 1),
    ]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = {(row["mode"], row["delay_ms"]): row for row in rows if row["variant"] == variant}
        shown = [_alike(mine, way) for way in ways]
        success.append(f"| {variant} | {' | '.join(_success(row) if row else '' for row in shown)} |")
        times = (statistics.median(row[key] for row in mine.values()) for key in LATENCY)
        cells = " | ".join(_jerk(row) if row else "" for row in shown)
        jerk.append(f"| {variant} | {cells} | {' / '.join(f'{ms:.1f}' for ms in times)} |")
    return "\n".join(success) + "\n\n" + "\n".join(jerk)


LATENCY = ("latency_p50_ms", "latency_p95_ms")


def _alike(mine: dict[Way, Row], way: Way) -> Row | None:
    """What was found in a loop with a delay; where both loops are the same without one, in the other."""
    sync_only = not any(mode == "rtc" for mode, _ in mine)
    if way == ("rtc", 0) and way not in mine and not sync_only:
        return mine.get(("sync", 0))
    return mine.get(way)


def _success(row: Row) -> str:
    return f"{100 * row['success']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


def _jerk(row: Row) -> str:
    if row["jerk_rms"] is None:
        return "-"
    return f"{row['jerk_rms'] / 1000:.0f} / {row['jerk_p99'] / 1000:.0f}"


# ---- sentences

WITHOUT_DELAY = (
    ("choose", "act_language", STOCK),
    ("either", "act_flow", STOCK),
    ("either", "act_flow_draws", "act_flow"),
    ("either", "act_flow_draft", "act_flow"),
    ("around", "act_flow", STOCK),
    ("mixed", "act_advantage", STOCK),
    ("depth", "act_depth_early", "act_group"),
)
"""Tasks without delay, and who is compared with whom there: with the policy that lacks the flag alone."""


def _index(rows: Iterable[Row]) -> dict[Key, Row]:
    return {(r["task"], r["variant"], r["mode"], r["delay_ms"]): r for r in rows}


def sentences(rows: Sequence[Row]) -> list[str]:
    """What the claims of the policy come to."""
    found, said = _index(rows), []
    for task, setting in SETTINGS.items():
        if setting.delays_ms:
            said += _under_delay(found, task, setting.delays_ms)
    for task, name, other in WITHOUT_DELAY:
        ours, theirs = (found.get((task, each, "sync", 0)) for each in (name, other))
        if ours and theirs:
            said.append(
                f"`{task}`: {name} {_success(ours)}, {_called(other)} {_success(theirs)}: "
                f"{_apart(ours, theirs)}"
            )
    return said


def _under_delay(found: dict[Key, Row], task: str, delays: Sequence[int]) -> list[str]:
    """A sentence a delay: act_rtc against stock ACT that waits, and against one that goes on."""
    said = []
    for delay in (each for each in delays if each):
        ours, waits, goes_on = (
            found.get((task, name, mode, delay))
            for name, mode in (("act_rtc", "rtc"), (STOCK, "sync"), (STOCK, "rtc"))
        )
        if not (ours and waits and goes_on):
            continue
        jerk = ""
        if ours["jerk_rms"] and goes_on["jerk_rms"]:
            times, tail = (goes_on[key] / ours[key] for key in ("jerk_rms", "jerk_p99"))
            jerk = f", and its boundary jerk is {times:.1f} times act_rtc's (p99: {tail:.1f})"
        said.append(
            f"`{task}`, {delay} ms: act_rtc {_success(ours)}, stock ACT that waits, as in `lerobot-rollout`, "
            f"{_success(waits)}: {_apart(ours, waits)}; stock ACT in the loop that goes on, which "
            f"`lerobot-rollout` refuses, {_success(goes_on)}: {_apart(ours, goes_on)}{jerk}"
        )
    return said


def _called(variant: str) -> str:
    return "stock ACT" if variant == STOCK else variant


def _apart(ours: Row, theirs: Row) -> str:
    if ours["low"] > theirs["high"]:
        return "better beyond both intervals"
    if ours["high"] < theirs["low"]:
        return "worse beyond both intervals"
    return "not apart by their intervals"


def summary(rows: Sequence[Row]) -> str:
    """One line: what real-time chunking does at the longest delay, and who solves the other tasks."""
    found, parts = _index(rows), []
    ours, theirs = found.get(("belt", "act_rtc", "rtc", 300)), found.get(("belt", STOCK, "sync", 300))
    same_loop = found.get(("belt", STOCK, "rtc", 300))
    if ours and theirs:
        parts.append(
            f"belt, 300 ms: act_rtc {100 * ours['success']:.0f} %, stock ACT that waits "
            f"{100 * theirs['success']:.0f} %"
        )
    if ours and same_loop and ours["jerk_rms"] and same_loop["jerk_rms"]:
        parts.append(f"boundary jerk {same_loop['jerk_rms'] / ours['jerk_rms']:.1f} times lower")
    for task, name, other in WITHOUT_DELAY:
        ours, theirs = (found.get((task, each, "sync", 0)) for each in (name, other))
        if ours and theirs:
            parts.append(
                f"{task}: {name} {100 * ours['success']:.0f} %, {_called(other)} "
                f"{100 * theirs['success']:.0f} %"
            )
    return "; ".join(parts) or "nothing to sum up"


def about(seeds: int, episodes: int) -> str:
    """How much was measured, in words."""
    return f"{seeds} seeds, {episodes} episodes each, Wilson intervals over all of them."


def when(rows: Sequence[Row]) -> str:
    """The day when all rows were measured, or the days of each task."""
    of_tasks: dict[str, list[str]] = {}
    for row in rows:
        of_tasks.setdefault(row["task"], []).append(row["measured"])
    said = {task: ", ".join(sorted(set(times))) for task, times in of_tasks.items()}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "; ".join(f"`{task}` {times}" for task, times in said.items())


def readme_block(rows: Sequence[Row], command: str) -> str:
    """What stands in the policy's README."""
    seeds, episodes = rows[0]["seeds"], rows[0]["episodes"]
    head = f"`{command}`, {when(rows)}: {about(seeds, episodes // seeds)}"
    said = "\n".join(f"- {sentence}." for sentence in sentences(rows))
    picture = "![Success and boundary jerk by delay](../../docs/images/act_plus.png)"
    return f"{head}\n\n{said}\n\n{tables(rows)}\n\n{picture}"


# ---- picture

SHOWN = (STOCK, "act_rtc", "act_prefix_join")
"""Of the policies played with delays: more cannot be told apart."""


def picture(rows: Sequence[Row], file: Path) -> None:
    """Success and boundary jerk against the delay on the belt, and success on the tasks without."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    rate, jerk, others = figure.subplots(1, 3)
    _draw_delays(rows, rate, jerk)
    bars = [row for row in rows if not SETTINGS[row["task"]].delays_ms]
    if bars:
        names = [f"{row['task']}: {row['variant']}" for row in bars]
        others.barh(names, [100 * row["success"] for row in bars], xerr=_errors(bars), capsize=3)
        others.invert_yaxis()
    others.set(xlim=(0, 100), xlabel="success, %", title="instructions, several ways, depth")
    figure.savefig(file, dpi=90)


def _draw_delays(rows: Sequence[Row], rate: Any, jerk: Any) -> None:
    styles = {"sync": "--", "rtc": "-"}
    for variant in (name for name in SHOWN if any(row["variant"] == name for row in rows)):
        colour = f"C{SHOWN.index(variant)}"
        for mode in MODES:
            mine = {
                (r["mode"], r["delay_ms"]): r for r in rows if (r["task"], r["variant"]) == ("belt", variant)
            }
            chosen = [
                row
                for row in (_alike(mine, (mode, d)) for d in SETTINGS["belt"].delays_ms)
                if row is not None
            ]
            if not chosen:
                continue
            delays = [row["delay_ms"] for row in chosen]
            label = f"{variant}, {HEADS[mode]}"
            line = {"marker": "o", "color": colour, "linestyle": styles[mode], "label": label}
            rate.errorbar(
                delays, [100 * r["success"] for r in chosen], yerr=_errors(chosen), capsize=3, **line
            )
            jerk.plot(delays, [(r["jerk_rms"] or np.nan) / 1000 for r in chosen], **line)
    rate.set(title="lifting from a belt", ylabel="success, %", xlabel="delay, ms", ylim=(-3, 103))
    jerk.set(title="at chunk boundaries", ylabel="jerk rms, 1000 units/s³", xlabel="delay, ms", yscale="log")
    if jerk.get_legend_handles_labels()[0]:
        jerk.legend(fontsize=6.5)


def _errors(rows: Sequence[Row]) -> list[list[float]]:
    return [
        [100 * (row["success"] - row["low"]) for row in rows],
        [100 * (row["high"] - row["success"]) for row in rows],
    ]
