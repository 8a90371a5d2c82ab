# SPDX-License-Identifier: Apache-2.0
"""Pushing a checkpoint to the Hub: LeRobot's three commits and our one, timed and cut off.

Pushes a stock ACT by the last lines of `lerobot-train`, with and without our plugins, to a Hub on loopback
that waits before each answer as a distant one does (simulated). Both sides take turns. Then a small policy
is pushed with a connection that breaks at each request, before, within and after its body: once, and for
good; into a new repository, and over an older checkpoint. Prints tables of seconds and of what a reader
finds, writes JSON and PNG.
Expected last line: `hub_push: one push takes … of stock's time; cut off, a reader finds …`.

    uv run python benchmarks/hub_push.py [--quick] [--rounds 10] [--wait_ms 60] [--out DIR]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from hub_push_parts import tiny_training
from hub_push_parts.breaks import (
    MIXTURE,
    NEW,
    NOTHING,
    OLD,
    OURS,
    STOCK,
    cut_off,
    forget_push,
    pushing,
    start_anew,
)
from huggingface_hub.utils import disable_progress_bars
from rich.progress import Progress

from lerobot_ext.testing.hub import in_this_process
from lerobot_ext.testing.hub_faults import FaultyHub

SIDES = {STOCK: "LeRobot 0.6.1", OURS: "with our plugins"}
FULL_SIZE: dict[str, Any] = {"chunk_size": 100}
"""Stock ACT's own layers; without a camera's network, which would add 45 MB to each push alike."""
COLOURS = {NOTHING: "#b0b0b0", OLD: "#7fb7be", NEW: "#2a7f9e", MIXTURE: "#c0392b"}

Figures = Mapping[str, Any]


class DistantHub(FaultyHub):
    """A Hub that lets each request wait."""

    wait_s = 0.0

    def _next(self, request: str) -> Any:
        threading.Event().wait(self.wait_s)  # `time.sleep` is the client's to wait with
        return super()._next(request)


def push_seconds(rounds: int, wait_s: float, folder: Path, told: Callable[[int], object]) -> dict[str, Any]:
    """Seconds of pushes into a new repository, the sides in turn; and what is pushed."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    megabytes = 0.0
    with DistantHub(folder / "hub") as hub, in_this_process(hub, folder / "home"):
        hub.wait_s = wait_s
        order = np.random.default_rng(0)
        for number in range(rounds + 1):
            for side in order.permutation(list(SIDES)):
                with pushing(side) as script:
                    training = tiny_training.train(folder / "run", script, **FULL_SIZE)
                    started = time.perf_counter()
                    training.push()
                    if number:  # the first ones warm up
                        seconds[side].append(time.perf_counter() - started)
                    forget_push(training)
                entry = hub.store.resolve("model", tiny_training.REPO, "main")[1].files["model.safetensors"]
                megabytes = entry.size / 1e6
                start_anew(hub)
                told(1)
    return {"seconds": seconds, "weights_mb": megabytes, "wait_ms": 1e3 * wait_s}


def measure(rounds: int, wait_s: float, bar: Progress) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as tmp:
        task = bar.add_task("pushes", total=2 * (rounds + 1))
        found = push_seconds(rounds, wait_s, Path(tmp) / "timed", lambda n: bar.advance(task, n))
        task = bar.add_task("cut-off pushes", total=None)
        cut = [
            {"side": side, "over": OLD if second else NOTHING, **_cut(side, second, Path(tmp), bar, task)}
            for second in (False, True)
            for side in SIDES
        ]
    return {**found, "cut_off": cut}


def _cut(side: str, second: bool, tmp: Path, bar: Progress, task: Any) -> dict[str, Any]:
    place = tmp / f"{side}-{second}"
    with FaultyHub(place / "hub") as hub, in_this_process(hub, place / "home"):
        return cut_off(hub, side, place / "run", second, lambda n: bar.advance(task, n))


def ratio(figures: Figures) -> float:
    """Median of the paired ratios, ours to stock's."""
    pairs = zip(figures["seconds"][OURS], figures["seconds"][STOCK], strict=True)
    return statistics.median(ours / stock for ours, stock in pairs)


def table(figures: Figures) -> str:
    """Both tables, as Markdown."""
    lines = ["| push | requests | commits | seconds, median |", "|---|--:|--:|--:|"]
    first = {row["side"]: row for row in figures["cut_off"] if row["over"] == NOTHING}
    for side, title in SIDES.items():
        seconds = statistics.median(figures["seconds"][side])
        lines.append(f"| {title} | {first[side]['requests']} | {first[side]['commits']} | {seconds:.2f} |")
    lines += [
        "",
        "| cut off for good | into | nothing | the old one | the new one | a mixture | one lost connection |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for row in figures["cut_off"]:
        shown = " | ".join(str(row["found"][name]) for name in COLOURS)
        into = "a new repository" if row["over"] == NOTHING else "one with an older checkpoint"
        arrived = f"{row['arrived']} of {row['lost_once']} arrive"
        lines.append(f"| {SIDES[row['side']]} | {into} | {shown} | {arrived} |")
    return "\n".join(lines)


def last_line(figures: Figures) -> str:
    """What one commit is worth."""
    halves = {
        side: [
            (row["found"][MIXTURE], sum(row["found"].values()))
            for row in figures["cut_off"]
            if row["side"] == side
        ]
        for side in SIDES
    }
    shown = {
        side: f"{sum(half for half, _ in rows)} of {sum(whole for _, whole in rows)}"
        for side, rows in halves.items()
    }
    return (
        f"hub_push: one push takes {ratio(figures):.2f} of stock's time; cut off, a reader finds a mixture "
        f"after {shown[OURS]} pushes, after {shown[STOCK]} of stock's"
    )


def draw(figures: Figures, path: Path) -> None:
    """What a reader finds after a push that was cut off, as shares."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    axes = figure.subplots()
    rows: Sequence[Mapping[str, Any]] = figures["cut_off"]
    names = [
        f"{SIDES[row['side']]},\n{'new repository' if row['over'] == NOTHING else 'over an old one'}"
        for row in rows
    ]
    left = np.zeros(len(rows))
    for name, colour in COLOURS.items():
        share = np.array([100 * row["found"][name] / sum(row["found"].values()) for row in rows])
        axes.barh(names, share, left=left, color=colour, label=name)
        left += share
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="% of the places where the connection breaks for good")
    axes.legend(title="a reader finds", fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round: only shows that it runs")
    parser.add_argument("--rounds", type=int, default=10, help="timed pushes of each side")
    parser.add_argument("--wait_ms", type=float, default=60.0, help="before each answer of the Hub")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/hub_push"))
    args = parser.parse_args()
    disable_progress_bars()  # one for each file of hundreds of pushes
    with Progress() as bar:
        figures = measure(1 if args.quick else args.rounds, args.wait_ms / 1e3, bar)
    print(table(figures))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "hub_push.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    draw(figures, args.out / "hub_push.png")
    print(last_line(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
