# SPDX-License-Identifier: Apache-2.0
"""Q-chunking and LAPO against cloning, filtered cloning, IQL and diffusion on logs of mixed quality.

Records one dataset of scripted episodes of the simulated Koch, a third each by an expert, a clumsy and a
random hand, with rewards. Trains each method on it with the stock `lerobot-train` at equal steps and batch
size, and evaluates it with the stock `lerobot-eval` on the same starts. Prints success with 95 % Wilson
intervals, over the seeds together and one by one; writes JSON, Markdown and PNG, and with `--write-readme`
the blocks in the policies' READMEs. A cell (task, method and seed) that is done is not run again while its
own recipe is the same, so a run that was stopped goes on where it stood and methods and seeds are added one
by one; `--report` runs nothing and tells of the cells that are there.
Expected last line: `lapo … % against bc … %: LAPO …; qc … % against qc_bc … %: Q-chunking …`.

    uv run python benchmarks/offline_rl.py [--quick] [--task lift] [--seeds 3] [--steps 3000] \
        [--episodes 100] [--demos 120] [--batch 64] [--jobs 1] \
        [--methods qc,qc_bc,lapo,bc,diffusion] [--out DIR] \
        [--report] [--write-readme]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hierarchical_parts.side_by_side import side_by_side
from rl_parts import blocks, cells, pictures, running, stages, tables
from rl_parts.cells import Conditions
from rl_parts.methods import METHODS, OF_LAPO

BLOCKS = {
    "lapo": (blocks.LAPO, "results", OF_LAPO),
    "qc": (blocks.Q_CHUNKING, "offline results", tuple(METHODS)),
}
"""By the method that it is about: a README, its block, and the methods in it."""
QUICK = Conditions(demos=6, steps=20, episodes=2)
Skills = dict[str, dict[str, int]]
OPTIONS = ("task", "demos", "steps", "episodes", "batch")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; what cannot be meant ends the program."""
    usual = Conditions()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", help=f"lift, place or reach (default: {usual.task})")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help=f"of every method (default: {usual.steps})")
    parser.add_argument("--episodes", type=int, help=f"evaluated of each cell (default: {usual.episodes})")
    parser.add_argument("--demos", type=int, help=f"episodes of the dataset (default: {usual.demos})")
    parser.add_argument("--batch", type=int, help=f"frames of a step (default: {usual.batch})")
    parser.add_argument("--methods", default=",".join(METHODS), help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, one thread each")
    parser.add_argument("--quick", action="store_true", help="few methods, 20 steps: only shows that it runs")
    parser.add_argument("--report", action="store_true", help="run nothing, tell of what is in --out")
    parser.add_argument("--write-readme", action="store_true", help="put the tables into the READMEs")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/offline_rl"))
    args = parser.parse_args(words)
    asked = args.methods.split(",")
    unknown = sorted(set(asked) - set(METHODS))
    if unknown:
        parser.error(f"--methods names {', '.join(unknown)}; choose from {', '.join(METHODS)}.")
    if args.quick and (args.write_readme or args.report):
        parser.error("--quick measures nothing to report; leave out one of the two.")
    args.methods = [method for method in METHODS if method in asked]
    args.asked = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    if args.quick:
        args.seeds, args.out = 1, args.out / "quick"
        args.methods = [method for method in ("lapo", "bc", "qc", "qc_bc") if method in asked] or args.methods
        args.asked = {field.name: getattr(QUICK, field.name) for field in fields(QUICK)}
    return args


def measure(args: argparse.Namespace) -> tuple[Conditions, list[str]]:
    """Run what is asked for and not done; gives the conditions and what failed."""
    conditions = replace(Conditions(), **args.asked)
    out = args.out.absolute()
    with running.working_in(out) as commands:
        stages.record(out, conditions.task, conditions.demos, commands)
        work = [
            partial(cells.run, conditions, method, seed, out, commands)
            for seed in range(args.seeds)
            for method in args.methods
        ]
        return conditions, side_by_side(work, args.jobs, commands)


def command(conditions: Conditions, shown: list[dict[str, Any]]) -> str:
    """What measures these cells."""
    names = dict.fromkeys(cell["method"] for cell in shown)
    options = " ".join(f"--{name} {getattr(conditions, name)}" for name in OPTIONS)
    return (
        f"uv run python benchmarks/offline_rl.py {options} --seeds {max(c['seed'] for c in shown) + 1} "
        f"--methods {','.join(names)}"
    )


def skills(out: Path, conditions: Conditions) -> Skills:
    """What is in the logs."""
    return stages.skills_of(stages.data_folder(out, conditions.task, conditions.demos))


def about(data: Skills, conditions: Conditions) -> str:
    """What was compared, in words."""
    return f"Koch {conditions.task}, {stages.about_data(data)}, {conditions.steps} steps"


def readme_block(data: Skills, conditions: Conditions, shown: list[dict[str, Any]], mine: str) -> str:
    """Some cells of a task as a README has them, with sentences about the method `mine`."""
    rates = tables.by_method(shown)
    when = blocks.days(cell["measured"] for cell in shown)
    lines = [f"`{command(conditions, shown)}`, {when}:", ""]
    lines += [f"{about(data, conditions)} of {conditions.batch} frames.", "", tables.offline_table(rates), ""]
    return "\n".join([*lines, " ".join(tables.against(rates, mine))]).rstrip()


def write_readmes(out: Path, every: list[tuple[Conditions, list[dict[str, Any]]]]) -> None:
    """Put the cells of all tasks into the README of each policy that they tell something about."""
    for mine, (readme, block, methods) in BLOCKS.items():
        text = []
        for conditions, found in every:
            shown = [cell for cell in found if cell["method"] in methods]
            if any(cell["method"] == mine for cell in shown):
                text.append(readme_block(skills(out, conditions), conditions, shown, mine))
        if text:
            blocks.write_block(readme, block, "\n\n".join(text))


def tell(out: Path, conditions: Conditions, found: list[dict[str, Any]]) -> str:
    """Print and write the cells of a task; gives the last line about it."""
    rates, data = tables.by_method(found), skills(out, conditions)
    table, name = tables.offline_table(rates), f"offline_rl_{conditions.task}"
    print(f"\n{about(data, conditions)}\n\n{table}\n")
    written = {"conditions": asdict(conditions), "data": data, "summary": rates}
    (out / f"{name}.json").write_text(json.dumps(written | {"cells": found}, indent=2))
    (out / f"{name}.md").write_text(table + "\n")
    title = f"Simulated Koch, {conditions.task}, logs of mixed quality"
    pictures.success_bars(rates, title, out / f"{name}.png")
    for mine in BLOCKS:
        for sentence in tables.against(rates, mine):
            print(sentence)
    return tables.offline_verdict(rates)


def main() -> None:
    """Run the benchmark."""
    args = parse()
    asked, failures = args.asked, []
    if not args.report:
        conditions, failures = measure(args)
        asked = asdict(conditions)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    last = [tell(args.out, *one) for one in cells.found(args.out, asked)]
    if args.write_readme:
        anywhere = {name: value for name, value in asked.items() if name != "task"}
        write_readmes(args.out, cells.found(args.out, anywhere))
    print("; ".join(last))
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
