# SPDX-License-Identifier: Apache-2.0
"""What our comforts cost the stock trainer: CPU time of a step, of a log step, and of an optimizer's step.

    uv run python benchmarks/trainer_overhead.py [--quick] [--rounds 25] [--out DIR]

Both sides run in turn, a few at a time, in one process with one thread. Prints a table of medians, writes
`trainer_overhead.json` and `.png` where `--out` says, and ends with the line
`trainer_overhead: … µs a step …`.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from lerobot.utils.logging_utils import AverageMeter, MetricsTracker

from lerobot_ext.training import loop, record, time_left
from lerobot_ext.training.accumulation import accumulating

NAMES = ("loss", "grad_norm", "lr", "update_s", "dataloading_s", "samples_per_s", "l1_loss", "kld_loss")


def make_tracker(kind: type[MetricsTracker]) -> MetricsTracker:
    """A tracker as the trainer makes it."""
    return kind(8, 10_000, 50, {name: AverageMeter(name, ":.3f") for name in NAMES}, initial_step=0)


@contextmanager
def watched(folder: Path, *observers: loop.LoopObserver) -> Iterator[MetricsTracker]:
    """A tracker that tells `observers`, in a run whose folder is `folder`."""
    script = ModuleType("stands_for_lerobot_train")
    for name in ("eval_policy_all", "make_optimizer_and_scheduler"):
        setattr(script, name, lambda *_: None)
    script.MetricsTracker = MetricsTracker
    for observer in observers:
        loop.observe(observer, script)
    cfg = SimpleNamespace(output_dir=folder, steps=10**9, eval_steps=0)
    script.make_optimizer_and_scheduler(cfg, None)
    yield make_tracker(script.MetricsTracker)
    loop.uninstall()


def step(tracker: MetricsTracker) -> None:
    """What the trainer does with its tracker at each step."""
    for name in NAMES:
        setattr(tracker, name, 0.5)
    tracker.step()


def log_step(tracker: MetricsTracker) -> None:
    """What it does at a log step besides."""
    step(tracker)
    str(tracker)
    tracker.to_dict()
    tracker.reset_averages()


def cpu_us(work: Callable[[], object], repeats: int) -> float:
    """CPU microseconds of one call, of all threads of the process."""
    start = time.process_time_ns()
    for _ in range(repeats):
        work()
    return (time.process_time_ns() - start) / repeats / 1e3


def compare(sides: dict[str, Callable[[], object]], rounds: int, repeats: int) -> dict[str, float]:
    """Median CPU microseconds of each side, in turn."""
    for work in sides.values():
        work()
    seen: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            seen[name].append(cpu_us(work, repeats))
    return {name: statistics.median(values) for name, values in seen.items()}


def trackers(rounds: int) -> list[dict[str, Any]]:
    """Steps and log steps, stock and with everything on."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stock = make_tracker(MetricsTracker)
        for name, what, repeats in (("step", step, 2000), ("log step", log_step, 50)):
            for label, made in (
                ("time left", (time_left.TimeLeft(),)),
                ("time left + metrics.csv", (time_left.TimeLeft(), record.CsvRecorder())),
                (
                    "time left + metrics.csv + TensorBoard",
                    (time_left.TimeLeft(), record.CsvRecorder(), record.EventRecorder()),
                ),
            ):
                with watched(Path(folder) / f"{name} {label}", *made) as ours:
                    found = compare(
                        {
                            "stock": lambda what=what: what(stock),
                            "ours": lambda what=what, ours=ours: what(ours),
                        },
                        rounds,
                        repeats,
                    )
                rows.append({"what": name, "with": label, **found})
    return rows


def optimizers(rounds: int, tensors: int = 100, size: int = 20_000) -> list[dict[str, Any]]:
    """AdamW's step for each batch, and the accumulated one's share of a batch."""
    rows = []
    for k in (1, 4, 16):
        sides = {}
        for name in ("stock", "ours"):
            parameters = [torch.nn.Parameter(torch.randn(size)) for _ in range(tensors)]
            optimizer: Any = torch.optim.AdamW(parameters)
            if name == "ours":
                optimizer = accumulating(optimizer, k, clip_norm=10.0)
            gradients = [torch.randn(size) for _ in range(tensors)]
            sides[name] = _batch(optimizer, parameters, gradients, clip=name == "stock")
        found = compare(sides, rounds, k)
        rows.append(
            {"what": f"optimizer, {tensors * size / 1e6:.0f} M parameters", "with": f"k = {k}", **found}
        )
    return rows


def _batch(optimizer: Any, parameters: list[Any], gradients: list[Any], *, clip: bool) -> Callable[[], None]:
    """One batch after its backward pass: clip, step, zero_grad, as the stock loop does."""

    def work() -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(parameters, 10.0 if clip else float("inf"))
        optimizer.step()
        optimizer.zero_grad()

    return work


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Bars of both sides, on a logarithmic scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.55 * len(rows) + 1), layout="constrained")
    axis = figure.subplots()
    for offset, side in ((-0.2, "stock"), (0.2, "ours")):
        axis.barh([i + offset for i in range(len(rows))], [row[side] for row in rows], 0.38, label=side)
    axis.set_yticks(range(len(rows)), [f"{row['what']}: {row['with']}" for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="CPU µs")
    axis.legend()
    figure.savefig(path, dpi=110)


def table(rows: list[dict[str, Any]]) -> str:
    """Both sides, as Markdown."""
    lines = ["| what | with | stock, µs | ours, µs | difference, µs |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['what']} | {row['with']} | {row['stock']:.1f} | {row['ours']:.1f} | "
        f"{row['ours'] - row['stock']:+.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def last_line(rows: list[dict[str, Any]]) -> str:
    """What all of it costs together."""
    everything = {row["what"]: row["ours"] - row["stock"] for row in rows if "TensorBoard" in row["with"]}
    return (
        f"trainer_overhead: {everything['step']:.1f} µs a step and "
        f"{everything['log step']:.0f} µs a log step with everything on"
    )


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--out", type=Path, metavar="DIR")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 5 if args.quick else args.rounds
    rows = trackers(rounds) + optimizers(rounds)
    print(table(rows))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "trainer_overhead.json").write_text(json.dumps(rows, indent=2) + "\n")
        draw(rows, args.out / "trainer_overhead.png")
    print(last_line(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
