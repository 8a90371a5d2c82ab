# SPDX-License-Identifier: Apache-2.0
"""Offline to online on the simulated Koch: what learning in the environment adds to a policy from logs.

For each task, policy and seed: `lerobot-train` makes a policy from logs of mixed quality, `lerobot-ext
train-online` goes on with it, in one process on one thread, with the same logs as its prior data. Both are
played by the stock `lerobot-eval` on the same starts. Prints success with 95 % Wilson intervals, over the
seeds together and one by one; writes JSON, Markdown and PNG with the success curves, and with
`--write-readme` the block in the README of Q-chunking. What is done is not run again while its own recipe is
the same, and an online run that was stopped goes on; `--report` runs nothing and tells of the cells that are
there.
Each task has settings of its own, `RECIPES`, which options replace.
Expected last line: `lift: offline … %, online … %: …`.

    uv run python benchmarks/online_rl.py [--quick] [--tasks lift,place] [--seeds 3] [--offline_steps 3000] \
        [--online_steps 10000] [--episodes 100] [--demos 120] [--batch 64] [--jobs 1] [--policy qc,lapo] \
        [--out DIR] [--train="--policy.hidden_dim=128"] [--online="--utd 2"] [--report] [--write-readme]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hierarchical_parts.side_by_side import side_by_side
from rl_parts import blocks, online_cells, pictures, running, stages, tables
from rl_parts.methods import METHODS, learns_values
from rl_parts.online_cells import Conditions

BLOCK, PICTURE = "online results", "online_rl.png"
Part, Cells = dict[str, Any], list[dict[str, Any]]
"""The cells of a task, with their conditions and what the logs hold."""
OPTIONS = ("demos", "offline_steps", "online_steps", "episodes", "batch")
WORDS = ("train", "online")
RECIPES = {
    "lift": ("qc", Conditions("lift", online_steps=10_000, online=("--n_envs=5", "--eval_episodes=20"))),
    "place": (
        "qc_awr",
        Conditions(
            "place",
            demos=45,
            online_steps=120_000,
            batch=256,
            train=("--policy.discount=0.985",),
            online=(
                "--utd=0.08", "--n_envs=10", "--exploration_noise=0.05", "--eval_freq=20000",
                "--eval_episodes=20",
            ),
        ),
    ),
}  # fmt: skip
"""Method and settings of a task. On `place` few logs and much practice: many logs leave nothing to learn."""


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; what cannot be meant ends the program."""
    able = [method for method in METHODS if learns_values(method)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", default=",".join(RECIPES), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each (default: %(default)s)")
    parser.add_argument("--policy", help=f"of {', '.join(able)}, by commas (default: the task's)")
    parser.add_argument("--offline_steps", type=int, help="updates before")
    parser.add_argument("--online_steps", type=int, help="steps of the environment")
    parser.add_argument("--episodes", type=int, help="evaluated of each policy")
    parser.add_argument("--demos", type=int, help="episodes of the logs of a task")
    parser.add_argument("--batch", type=int, help="frames an update, in both halves")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, one thread each")
    parser.add_argument("--train", help="more options of lerobot-train, in one text")
    parser.add_argument("--online", help="more options of lerobot-ext train-online, in one text")
    parser.add_argument("--quick", action="store_true", help="one seed of reach, only shows that it runs")
    parser.add_argument("--report", action="store_true", help="run nothing, tell of what is in --out")
    parser.add_argument("--write-readme", action="store_true", help="put the table into Q-chunking's README")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/online_rl"))
    args = parser.parse_args(words)
    asked = args.policy.split(",") if args.policy else []
    unable = sorted(set(asked) - set(able))
    if unable:
        parser.error(
            f"--policy names {', '.join(unable)}; choose from {', '.join(able)}; others learn no values."
        )
    if args.quick and (args.write_readme or args.report):
        parser.error("--quick measures nothing to report; leave out one of the two.")
    args.methods, args.tasks = [method for method in able if method in asked], args.tasks.split(",")
    if args.quick:
        args.tasks, args.seeds, args.offline_steps, args.online_steps = ["reach"], 1, 10, 60
        args.episodes, args.demos, args.out = 2, 4, args.out / "quick"
        args.train = "--policy.hidden_dim=16 --policy.obs_feature_dim=16"
        args.online = "--eval_episodes=2 --batch_size=8 --log_freq=30 --env.episode_length=30"
    return args


def recipe(task: str, args: argparse.Namespace) -> tuple[Conditions, list[str]]:
    """Settings and methods of a task, as far as no option replaces them."""
    method, usual = RECIPES.get(task, ("qc", Conditions(task)))
    given = {name: getattr(args, name) for name in OPTIONS}
    given |= {name: tuple(shlex.split(text)) for name in WORDS if (text := getattr(args, name)) is not None}
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(usual, **chosen), args.methods or [method]


def measure(args: argparse.Namespace) -> list[str]:
    """Run what is asked for and not done; gives what failed."""
    out = args.out.absolute()
    recipes = [recipe(task, args) for task in args.tasks]
    with running.working_in(out) as commands:
        for conditions, _ in recipes:
            stages.record(out, conditions.task, conditions.demos, commands)
        work = [
            partial(online_cells.run, conditions, method, seed, out, commands)
            for seed in range(args.seeds)
            for conditions, methods in recipes
            for method in methods
        ]
        return side_by_side(work, args.jobs, commands)


def by_task(made: list[Conditions], every: Cells, out: Path) -> dict[str, Part]:
    """The cells of each task with what they have in common, and their logs.

    Raises:
        SystemExit: Cells of a task differ in something else than policy and seed.
    """
    found: dict[str, Part] = {}
    for task in dict.fromkeys(cell["task"] for cell in every):
        kinds = list({one: None for one in made if one.task == task})
        if len(kinds) > 1:
            differ = sorted(k for k in asdict(kinds[0]) if len({asdict(kind)[k] for kind in kinds}) > 1)
            raise SystemExit(
                f"{out} holds results on {task} of different {', '.join(differ)}, which cannot be compared; "
                "measure them all alike, or into another --out."
            )
        cells = [cell for cell in every if cell["task"] == task]
        found[task] = {
            "conditions": asdict(kinds[0]),
            "data": stages.skills_of(stages.data_folder(out, task, kinds[0].demos)),
            "summary": {method: rates for (method, _), rates in tables.by_stage(cells).items()},
            "cells": cells,
        }
    return found


def command(part: Part) -> str:
    """What measures the cells of a task."""
    conditions, cells = part["conditions"], part["cells"]
    options = [f"--{name} {conditions[name]}" for name in OPTIONS]
    _, usual = RECIPES.get(conditions["task"], ("", Conditions(conditions["task"])))
    options += [
        f'--{name}="{shlex.join(conditions[name])}"'
        for name in WORDS
        if conditions[name] or getattr(usual, name)
    ]
    policies = ",".join(dict.fromkeys(cell["method"] for cell in cells))
    return (
        f"uv run python benchmarks/online_rl.py --policy {policies} "
        f"--tasks {conditions['task']} --seeds {max(c['seed'] for c in cells) + 1} {' '.join(options)}"
    )


def about(part: Part) -> str:
    """What was done, in words."""
    conditions = part["conditions"]
    return (
        f"Koch {conditions['task']}, {stages.about_data(part['data'])}: "
        f"{conditions['offline_steps']} updates on these logs, then {conditions['online_steps']} steps of "
        f"the environment, {conditions['batch']} frames an update"
    )


def readme_block(parts: dict[str, Part]) -> str:
    """The cells as the README has them."""
    lines = []
    for part in parts.values():
        when = blocks.days(
            cell[stage]["measured"] for cell in part["cells"] for stage in ("offline", "online")
        )
        lines += [f"`{command(part)}`, {when}:", "", f"{about(part)}.", ""]
    rates = tables.by_stage(cells_of(parts))
    lines += [
        tables.online_table(rates),
        "",
        f"![Success curves of all seeds](../../docs/images/{PICTURE})",
        "",
    ]
    return "\n".join([*lines, *(f"- {line}" for line in tables.online_verdict(rates))])


def cells_of(parts: dict[str, Part]) -> Cells:
    """Those of all tasks."""
    return [cell for part in parts.values() for cell in part["cells"]]


def main() -> None:
    """Run the benchmark."""
    args = parse()
    failures = [] if args.report else measure(args)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    parts = by_task(*online_cells.found(args.out), args.out)
    rates = tables.by_stage(cells_of(parts))
    table = tables.online_table(rates)
    print("", *map(about, parts.values()), "", table, sep="\n")
    (args.out / "online_rl.json").write_text(json.dumps(parts, indent=2))
    (args.out / "online_rl.md").write_text(table + "\n")
    pictures.success_curves(cells_of(parts), args.out / PICTURE)
    if args.write_readme:
        shutil.copy(args.out / PICTURE, blocks.IMAGES / PICTURE)
        blocks.write_block(blocks.Q_CHUNKING, BLOCK, readme_block(parts))
    print("; ".join(tables.online_verdict(rates)))
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
