# SPDX-License-Identifier: Apache-2.0
"""LAPO against cloning, cloning of the best episodes and IQL on logs of mixed quality (simulated Koch).

Records one dataset of scripted episodes, a third each by an expert, a clumsy and a random hand, with
rewards. Trains each method on it with the stock `lerobot-train` at equal steps and batch size, and evaluates
it with the stock `lerobot-eval` on the same starts. Prints success with 95 % Wilson intervals, over the seeds
together and one by one; writes JSON, Markdown and PNG, and with `--write-readme` the block in the policy's
README. A cell (method and seed) that is done is not run again, so a run that was stopped goes on where it
stood; `--report` runs nothing and tells of the cells that are there.
Expected last line: `lapo … % against bc … %: LAPO …`.

    uv run python benchmarks/offline_rl.py [--quick] [--task lift] [--seeds 3] [--steps 3000] \
        [--episodes 100] [--demos 120] [--jobs 1] [--methods lapo,bc,filtered_bc,iql] [--out DIR] \
        [--report] [--write-readme]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from lerobot_ext.intervals import wilson_interval

METHODS: dict[str, list[str]] = {
    "lapo": ["--policy.extraction=lapo"],
    "bc": ["--policy.extraction=bc"],
    "filtered_bc": ["--policy.extraction=filtered_bc"],
    "iql": ["--policy.extraction=iql", "--policy.expectile=0.7"],
}
TITLES = {
    "lapo": "LAPO",
    "bc": "cloning",
    "filtered_bc": "cloning of the best 30 %",
    "iql": "IQL",
}
README = Path(__file__).parents[1] / "policies" / "lerobot_policy_lapo" / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
DATA_SEED = 7
EVAL_SEED = 100_000
BATCH = 64


@dataclass(frozen=True)
class Plan:
    """What is compared, and on how much.

    Args:
        task (`str`): Of the environment.
        demos (`int`): Episodes of the dataset.
        steps (`int`): Training steps of every method.
        episodes (`int`): Evaluation episodes of every cell.
        out (`Path`): Folder of everything.
    """

    task: str
    demos: int
    steps: int
    episodes: int
    out: Path

    @property
    def data(self) -> Path:
        """The dataset."""
        return self.out / "data"

    def cell(self, method: str, seed: int) -> Path:
        """The result of a method with a seed."""
        return self.out / "cells" / f"{method}_seed{seed}.json"

    def settings(self) -> dict[str, Any]:
        """What must be the same for cells to be compared."""
        asked = {k: v for k, v in asdict(self).items() if k != "out"}
        return {**asked, "batch": BATCH, "methods": METHODS, "policy": policy_defaults()}

    def cells(self) -> list[dict[str, Any]]:
        """The results that are there, with the day of each."""
        found = []
        for place in sorted(self.cell("*", 0).parent.glob("*_seed*.json")):
            day = date.fromtimestamp(place.stat().st_mtime).isoformat()
            found.append({**json.loads(place.read_text()), "day": day})
        return found


def policy_defaults() -> dict[str, Any]:
    """What is learned where a method does not say otherwise: other defaults make other results."""
    from lerobot_policy_lapo import LAPOConfig

    own = LAPOConfig.__annotations__
    return {
        field.name: field.default
        for field in fields(LAPOConfig)
        if field.name in own and field.default is not MISSING
    }


def record(plan: Plan) -> dict[str, Any]:
    """Record the dataset, or go on with it; returns what it holds, see `skills_of`."""
    run("lerobot-ext", log=plan.out / "demos.log", words=[
        "demos", "--repo_id=local/mixed", f"--root={plan.data}", f"--task={plan.task}",
        f"--episodes={plan.demos}", "--skill=mixed", f"--seed={DATA_SEED}",
    ])  # fmt: skip
    return skills_of(plan)


def skills_of(plan: Plan) -> dict[str, Any]:
    """How many episodes of each skill the dataset has, and how many of them succeeded."""
    episodes = json.loads((plan.data / "meta" / "lerobot_env_koch.json").read_text())["episodes"]
    skills = sorted({episode["skill"] for episode in episodes})
    return {
        skill: {
            "episodes": sum(e["skill"] == skill for e in episodes),
            "successes": sum(e["success"] for e in episodes if e["skill"] == skill),
            "frames": sum(e["frames"] for e in episodes if e["skill"] == skill),
        }
        for skill in skills
    }


def run(program: str, log: Path, words: list[str]) -> None:
    """Run a console script at low priority on one thread; its output goes into `log`.

    Raises:
        SystemExit: It failed; says where its output is.
    """
    command = [str(Path(sys.executable).parent / program), *words]
    if shutil.which("nice"):
        command = ["nice", "-n", "10", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{program} failed with {done.returncode}; see {log}")


def run_cell(plan: Plan, method: str, seed: int) -> dict[str, Any]:
    """Train and evaluate one method with one seed, unless that is done."""
    place = plan.cell(method, seed)
    if place.exists():
        found: dict[str, Any] = json.loads(place.read_text())
        return found
    folder = plan.out / "runs" / f"{method}_seed{seed}"
    shutil.rmtree(folder, ignore_errors=True)  # what a stopped run left
    started = time.monotonic()
    run("lerobot-train", folder.parent / f"{folder.name}.train.log", [
        "--policy.type=lapo", *METHODS[method], "--policy.device=cpu", "--policy.push_to_hub=false",
        "--dataset.repo_id=local/mixed", f"--dataset.root={plan.data}", f"--output_dir={folder}",
        f"--steps={plan.steps}", f"--save_freq={plan.steps}", f"--batch_size={BATCH}", "--num_workers=0",
        "--env_eval_freq=0", f"--seed={seed}", f"--log_freq={max(1, plan.steps // 20)}",
    ])  # fmt: skip
    trained = time.monotonic()
    run("lerobot-eval", folder.parent / f"{folder.name}.eval.log", [
        f"--policy.path={folder}/checkpoints/last/pretrained_model", "--policy.device=cpu",
        "--env.type=koch", f"--env.task={plan.task}", f"--eval.n_episodes={plan.episodes}",
        f"--eval.batch_size={min(25, plan.episodes)}", "--eval.use_async_envs=false",
        f"--seed={EVAL_SEED}", f"--output_dir={folder}/eval",
    ])  # fmt: skip
    overall = json.loads((folder / "eval" / "eval_info.json").read_text())["overall"]
    result = {
        "method": method,
        "seed": seed,
        "successes": round(overall["pc_success"] * plan.episodes / 100),
        "episodes": plan.episodes,
        "train_s": round(trained - started, 1),
        "eval_s": round(time.monotonic() - trained, 1),
    }
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2))
    part.rename(place)
    print(f"{method} seed {seed}: {result['successes']} of {plan.episodes}", flush=True)
    return result


def summary(cells: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Success of each method over its seeds together, with the interval, and by seed; in per cent."""
    found = {}
    for method in dict.fromkeys(cell["method"] for cell in cells):
        mine = sorted((cell for cell in cells if cell["method"] == method), key=lambda cell: cell["seed"])
        successes, trials = (sum(cell[key] for cell in mine) for key in ("successes", "episodes"))
        low, high = wilson_interval(successes, trials)
        found[method] = {
            "success": 100 * successes / trials,
            "low": 100 * low,
            "high": 100 * high,
            "trials": trials,
            "by_seed": [100 * cell["successes"] / cell["episodes"] for cell in mine],
            "train_s": sum(cell["train_s"] for cell in mine) / len(mine),
        }
    return found


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """The summary as a table."""
    lines = ["| method | success | 95 % interval | by seed | training, s |", "|---|---|---|---|---|"]
    for method, row in sorted(found.items(), key=lambda item: -item[1]["success"]):
        seeds = ", ".join(f"{value:.0f}" for value in row["by_seed"])
        lines.append(
            f"| {method} | {row['success']:.1f} % | {row['low']:.0f} to {row['high']:.0f} % | {seeds} | "
            f"{row['train_s']:.0f} |"
        )
    return "\n".join(lines)


def draw(found: dict[str, dict[str, Any]], title: str, path: Path) -> None:
    """Draw the successes with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    order = sorted(found, key=lambda method: -found[method]["success"])
    rows = [found[method] for method in order]
    errors = [[row["success"] - row["low"] for row in rows], [row["high"] - row["success"] for row in rows]]
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    axes.barh(order, [row["success"] for row in rows], xerr=errors, capsize=3)
    for y, row in enumerate(rows):
        axes.plot(row["by_seed"], [y] * len(row["by_seed"]), "k.", markersize=4)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="success, %", title=title)
    figure.savefig(path, dpi=110)


def verdict(found: dict[str, dict[str, Any]]) -> str:
    """One line about LAPO and cloning."""
    if not {"lapo", "bc"} <= set(found):
        return f"{len(found)} methods compared"
    lapo, bc = found["lapo"], found["bc"]
    apart = lapo["low"] > bc["high"] or bc["low"] > lapo["high"]
    word = "not apart by their intervals" if not apart else "wins" if lapo["low"] > bc["high"] else "loses"
    return f"lapo {lapo['success']:.1f} % against bc {bc['success']:.1f} %: LAPO {word}"


def about(plan: Plan, data: dict[str, Any]) -> str:
    """One line on what was compared, of a run's own settings."""
    skills = ", ".join(f"{skill} {n['successes']} of {n['episodes']}" for skill, n in data.items())
    return f"Koch {plan.task}, {plan.demos} logged episodes (succeeded: {skills}), {plan.steps} steps"


def against(found: dict[str, dict[str, Any]]) -> list[str]:
    """A sentence on LAPO beside each other method."""
    lapo = found.get("lapo")
    said = []
    for method, row in found.items():
        if method == "lapo" or lapo is None:
            continue
        points = lapo["success"] - row["success"]
        apart = lapo["low"] > row["high"] or row["low"] > lapo["high"]
        word = "wins against" if points > 0 else "loses to"
        verdict = f"{word} {TITLES[method]} by {abs(points):.0f} points" if apart else (
            f"and {TITLES[method]} are not apart by their intervals ({points:+.0f} points)"
        )  # fmt: skip
        said.append(f"LAPO {verdict}.")
    return said


def readme_block(plan: Plan, data: dict[str, Any], cells: list[dict[str, Any]]) -> str:
    """The results as the README has them."""
    found = summary(cells)
    days = sorted({cell["day"] for cell in cells})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    command = (
        f"uv run python benchmarks/offline_rl.py --task {plan.task} --demos {plan.demos} "
        f"--steps {plan.steps} --episodes {plan.episodes} --seeds {max(c['seed'] for c in cells) + 1}"
    )
    named = {method: {**row, "method": TITLES[method]} for method, row in found.items()}
    table = markdown({row["method"]: row for row in named.values()})
    lines = [f"`{command}`, {when}:", "", f"{about(plan, data)} of {BATCH} frames.", "", table, ""]
    return "\n".join([*lines, " ".join(against(found))]).rstrip() + "\n"


def write_readme(text: str, readme: Path) -> None:
    """Replace what stands between the markers.

    Raises:
        SystemExit: The file has not both of them.
    """
    content = readme.read_text(encoding="utf-8")
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{readme} has no block between {BEGIN} and {END}; put both lines where it belongs.")
    readme.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def parse() -> argparse.Namespace:
    """The command line; what cannot be meant ends the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="lift", help="lift, place or reach")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--episodes", type=int, default=100, help="evaluation episodes of each cell")
    parser.add_argument("--demos", type=int, default=120, help="episodes of the dataset")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, one thread each")
    parser.add_argument("--quick", action="store_true", help="two methods, 20 steps: only shows that it runs")
    parser.add_argument("--report", action="store_true", help="run nothing, tell of what is in --out")
    parser.add_argument("--write-readme", action="store_true", help="put the table into the policy's README")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/offline_rl"))
    args = parser.parse_args()
    args.methods = args.methods.split(",")
    unknown = sorted(set(args.methods) - set(METHODS))
    if unknown:
        parser.error(f"--methods names {', '.join(unknown)}; choose from {', '.join(METHODS)}.")
    if args.quick and (args.write_readme or args.report):
        parser.error("--quick measures nothing to report; leave out one of the two.")
    if args.quick:
        args.seeds, args.steps, args.episodes, args.demos, args.methods = 1, 20, 2, 6, ["lapo", "bc"]
    return args


def measure(args: argparse.Namespace) -> tuple[Plan, dict[str, Any]]:
    """Run what is asked for and not done; gives what was asked and what the dataset holds.

    Raises:
        SystemExit: The folder holds results of other settings.
    """
    plan = Plan(args.task, args.demos, args.steps, args.episodes, args.out)
    plan.out.mkdir(parents=True, exist_ok=True)
    settings = plan.out / "settings.json"
    wanted = json.dumps(plan.settings(), indent=2)
    if settings.exists() and settings.read_text() != wanted:
        raise SystemExit(f"{plan.out} holds results of other settings ({settings}); name another --out.")
    settings.write_text(wanted)
    data = record(plan)
    cells = [(method, seed) for seed in range(args.seeds) for method in args.methods]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda cell: run_cell(plan, *cell), cells))
    return plan, data


def reported(out: Path) -> tuple[Plan, dict[str, Any]]:
    """What a folder's results were measured with, from the folder itself.

    Raises:
        SystemExit: There are none.
    """
    try:
        kept = json.loads((out / "settings.json").read_text())
        plan = Plan(kept["task"], kept["demos"], kept["steps"], kept["episodes"], out)
        data = skills_of(plan)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"{out} holds no results to report ({error}); run the benchmark first.") from error
    if not plan.cells():
        raise SystemExit(
            f"{out} holds no finished cell in {plan.cell('*', 0).parent}; run the benchmark first."
        )
    return plan, data


def main() -> None:
    """Run the benchmark."""
    args = parse()
    plan, data = reported(args.out) if args.report else measure(args)
    cells = plan.cells()
    found = summary(cells)
    table = markdown(found)
    print(f"\n{about(plan, data)}\n\n{table}\n")
    settings = json.loads((plan.out / "settings.json").read_text())
    record_ = {"settings": settings, "data": data, "summary": found, "cells": cells}
    (plan.out / "offline_rl.json").write_text(json.dumps(record_, indent=2))
    (plan.out / "offline_rl.md").write_text(table + "\n")
    draw(found, f"Simulated Koch, {plan.task}, logs of mixed quality", plan.out / "offline_rl.png")
    if args.write_readme:
        write_readme(readme_block(plan, data, cells), README)
    for sentence in against(found):
        print(sentence)
    print(verdict(found))


if __name__ == "__main__":
    main()
