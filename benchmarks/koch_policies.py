# SPDX-License-Identifier: Apache-2.0
"""Policies on tasks of the simulated Koch: LeRobot's own beside ours, on expert, clumsy and mixed data.

Records scripted episodes of each kind (clumsy: successful all the same; mixed: a third each by an expert, a
clumsy and a random hand, failures among them), trains each policy with the stock `lerobot-train` at equal
steps and batch size, and evaluates it with the stock `lerobot-eval` on the same starts. LeRobot's policies
are made small enough for one thread, ours are as they come (`koch_policies_parts/policies.py` says how).
Writes JSON, Markdown and PNG. A cell that is done is not run again while its recipe is the same.
Expected last line: `lift, state, expert: … % of 7 policies; …`.

    uv run python benchmarks/koch_policies.py [--quick] [--tasks lift] [--observations state,image] \
        [--data expert,noisy,mixed] [--policies act,diffusion,…] [--seeds 3] [--jobs 1] [--out DIR] [--report]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hierarchical_parts.side_by_side import side_by_side
from koch_policies_parts import cells, report
from koch_policies_parts.policies import IMAGE, POLICIES, STATE
from rl_parts import running

KNOWN = {"observations": (STATE, IMAGE), "data": tuple(cells.DATA), "policies": tuple(POLICIES)}


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; what cannot be meant ends the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", default="lift", help="reach, lift, place, …, by commas (default: lift)")
    for name, known in KNOWN.items():
        parser.add_argument(f"--{name}", default=",".join(known), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, one thread each")
    parser.add_argument("--quick", action="store_true", help="few steps of act and lapo: shows that it runs")
    parser.add_argument("--report", action="store_true", help="run nothing, tell of what is in --out")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/koch_policies"))
    args = parser.parse_args(words)
    for name, known in KNOWN.items():
        asked = getattr(args, name).split(",")
        unknown = sorted(set(asked) - set(known))
        if unknown:
            parser.error(f"--{name} names {', '.join(unknown)}; choose from {', '.join(known)}.")
        setattr(args, name, [one for one in known if one in asked])
    args.tasks, args.amounts = args.tasks.split(","), cells.AMOUNTS
    if args.quick:
        args.out, args.seeds, args.tasks = args.out / "quick", 1, ["reach"]
        args.observations, args.data = [STATE], ["expert", "mixed"]
        args.policies = [policy for policy in ("act", "lapo") if policy in args.policies] or args.policies
        args.amounts = dict.fromkeys(cells.AMOUNTS, cells.QUICK)
    return args


def measure(args: argparse.Namespace) -> list[str]:
    """Run what is asked for and not done; gives what failed."""
    every = cells.cells(args.tasks, args.observations, args.data, args.policies, args.seeds)
    out = args.out.absolute()
    with running.working_in(out) as commands:
        cells.record(every, args.amounts, out, commands)
        work = [partial(cells.run, cell, args.amounts[cell.observation], out, commands) for cell in every]
        return side_by_side(work, args.jobs, commands)


def main() -> None:
    """Run the benchmark."""
    args = parse()
    failures = [] if args.report else measure(args)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    rows = list(cells.found(args.out, args.amounts))
    if not rows:
        raise SystemExit(f"{args.out} holds no results; run the benchmark first.")
    figures, tables = {"summary": report.summary(rows), "rows": rows}, report.tables(rows)
    (args.out / "koch_policies.json").write_text(json.dumps(figures, indent=1))
    (args.out / "koch_policies.md").write_text(tables + "\n")
    report.picture(rows, args.out / "koch_policies.png")
    print(f"\n{tables}\n\n{report.last_line(figures)}")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
