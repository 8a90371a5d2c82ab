# SPDX-License-Identifier: Apache-2.0
"""What the layers of `hierarchical_diffusion` are worth, against flat and stock diffusion (simulated Koch).

Parts, selected by `--only`:

success    cells of task, policy and seed: trained by `lerobot-train`, evaluated by `lerobot-eval`
           (the curriculum is one of the policies)
nulling    held-out diffusion loss with layers replaced by their nulls, the same noise for all
safety     AUROC of injected violations; violations executed under noise, with the filter on and off
budget     success by `latency_budget_ms`, and how many deadlines are kept
speed      milliseconds of a chunk, against stock diffusion as it ships, in turns in one process

Every piece of work is one JSON file in DIR/results; what is there is not done again, so a run may be stopped
at any time and started again with other `--only`, `--tasks`, `--methods` or `--seeds`. Trainings and
evaluations run on one thread each, `--jobs` of them side by side; deadlines and speed want a machine that
does nothing else (`--again deadlines,speed` measures them anew; the load is printed beside them).
Prints Markdown; writes hierarchical.json, .md and .png.
Expected last line: `hierarchical: lift ours …, flat … %; … of … targets reached`.

    uv run python benchmarks/hierarchical.py [--quick] [--only success,nulling] [--tasks lift,tour]
        [--methods ours,flat,stock] [--seeds 3] [--jobs 2] [--nice 15] [--again speed] [--out DIR]
        [--report] [--write-readme]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hierarchical_parts import methods, settings
from hierarchical_parts.cells import ON_OURS
from hierarchical_parts.settings import TASKS, Settings
from hierarchical_parts.store import Store

KINDS = ("train", "success", *ON_OURS)
PARTS = ("success", "nulling", "safety", "budget", "speed")
README = Path(__file__).parents[1] / "policies" / "lerobot_policy_hierarchical_diffusion" / "README.md"


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=_some(PARTS), default=list(PARTS), help="parts, by commas")
    parser.add_argument(
        "--tasks",
        type=_some(tuple(TASKS)),
        default=list(TASKS),
        help=f"{', '.join(TASKS)} (default: all)",
    )
    parser.add_argument(
        "--methods",
        type=_some(tuple(methods.METHODS)),
        default=list(methods.DEFAULT_METHODS),
        help=f"{', '.join(methods.METHODS)} (default: {','.join(methods.DEFAULT_METHODS)})",
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=100, help="evaluated of each (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="cells side by side (default: %(default)s)")
    parser.add_argument("--nice", type=int, default=0, help="give way to other work, up to 19")
    parser.add_argument("--device", default="cpu", help="cpu, cuda (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="less than a minute: only shows that it runs")
    parser.add_argument(
        "--again", type=_some(KINDS), default=[], help=f"forget results of a kind: {', '.join(KINDS)}"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing, only write what is there")
    parser.add_argument("--write-readme", action="store_true", help="put the tables into the policy's README")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/hierarchical"))
    args = parser.parse_args(words)
    for name in ("seeds", "episodes", "jobs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} ({getattr(args, name)}) must be at least 1.")
    if args.quick and args.write_readme:
        parser.error("--quick measures nothing that belongs into the README; leave out one of the two.")
    return args


def _some(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Reads names separated by commas."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown)} is unknown; choose from {', '.join(allowed)}"
            )
        return [name for name in allowed if name in names]

    return read


def settings_of(args: argparse.Namespace) -> Settings:
    """What the command line asks for."""
    asked = Settings(
        out=args.out.absolute() / ("quick" if args.quick else ""),
        tasks=tuple(TASKS[name] for name in args.tasks),
        methods=tuple(args.methods),
        seeds=tuple(range(args.seeds)),
        episodes=args.episodes,
        device=args.device,
        nice=args.nice,
    )
    return settings.quick(asked) if args.quick else asked


def measure(args: argparse.Namespace, asked: Settings, store: Store) -> list[str]:
    """Do what is asked for and not done; gives what failed."""
    from hierarchical_parts import pieces, running

    failures: list[str] = []
    if "success" in args.only:
        failures += running.run(asked, store, args.jobs)
    wanted = [part for part in args.only if part != "success"]
    if wanted:
        failures += pieces.run(wanted, asked, store)
    return failures


def alone(out: Path, work: Callable[[], list[str]]) -> list[str]:
    """Do work that nobody else does in the same folder at the same time.

    Raises:
        SystemExit: Somebody does.
    """
    from filelock import FileLock, Timeout

    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / "lock", timeout=0):
            return work()
    except Timeout as error:
        raise SystemExit(f"another run measures into --out {out}; wait for it, or name another.") from error


def main() -> None:
    """Run the benchmark."""
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what it has started ends with it
    asked = settings_of(args)
    if args.nice:
        os.nice(args.nice)
    store = Store(asked.out / "results")
    for name in (name for kind in args.again for name in store.forget(f"{kind}.*")):
        print(f"forgotten: {name}", file=sys.stderr)
    failures = [] if args.report else alone(asked.out, lambda: measure(args, asked, store))

    from hierarchical_parts import pictures, report

    found: dict[str, Any] = report.collect(store)
    text = report.markdown(found)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "hierarchical.json").write_text(json.dumps(found, indent=1) + "\n")
    (asked.out / "hierarchical.md").write_text(text)
    pictures.draw(found, asked.out / "hierarchical.png")
    if args.write_readme:
        report.write_readme(text, README)
    print(text)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    print(report.summary(found))
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
