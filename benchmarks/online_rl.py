# SPDX-License-Identifier: Apache-2.0
"""Offline to online on the simulated Koch: what learning in the environment adds to a policy from logs.

For each task and seed: `lerobot-train` makes a policy from logs of mixed quality, `lerobot-ext train-online`
goes on with it. Both are played by the stock `lerobot-eval` on the same starts. Prints success with 95 %
Wilson intervals, over the seeds together and one by one; writes JSON, Markdown and PNG, the success curves
too. A cell (task and seed) that is done is not run again, and one that was stopped goes on.
Expected last line: `lift: offline … %, online … %: …`.

    uv run python benchmarks/online_rl.py [--quick] [--tasks lift,place] [--seeds 3] [--offline_steps 3000] \
        [--online_steps 20000] [--episodes 100] [--demos 120] [--jobs 1] [--policy lapo] [--out DIR] \
        [--train "--policy.hidden_dim=128"] [--online "--utd 2"]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lerobot_ext.intervals import wilson_interval
from lerobot_ext.training.metrics_file import read_metrics

DATA_SEED = 7
EVAL_SEED = 200_000
BATCH = 64


@dataclass(frozen=True)
class Plan:
    """What is compared, and on how much.

    Args:
        policy (`str`): `--policy.type`.
        demos (`int`): Episodes of the prior data of each task.
        offline_steps (`int`): Updates before.
        online_steps (`int`): Steps of the environment.
        episodes (`int`): Of each evaluation at the end.
        train (`str`): More options of `lerobot-train`.
        online (`str`): More options of `lerobot-ext train-online`.
        out (`Path`): Folder of everything.
    """

    policy: str
    demos: int
    offline_steps: int
    online_steps: int
    episodes: int
    train: str
    online: str
    out: Path

    def data(self, task: str) -> Path:
        """Prior data of a task."""
        return self.out / f"data_{task}"

    def run(self, task: str, seed: int) -> Path:
        """Folder of a cell."""
        return self.out / "runs" / f"{task}_seed{seed}"

    def settings(self) -> dict[str, Any]:
        """What must be the same for cells to be compared."""
        return {**{k: v for k, v in asdict(self).items() if k != "out"}, "batch": BATCH}


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
    with open(log, "a") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{program} failed with {done.returncode}; see {log}")


def record(plan: Plan, task: str) -> None:
    """Record the prior data of a task, or go on with it."""
    run("lerobot-ext", plan.out / f"demos_{task}.log", [
        "demos", f"--repo_id=local/{task}", f"--root={plan.data(task)}", f"--task={task}",
        f"--episodes={plan.demos}", "--skill=mixed", f"--seed={DATA_SEED}",
    ])  # fmt: skip


def run_cell(plan: Plan, task: str, seed: int) -> dict[str, Any]:
    """One task with one seed: offline, online, and both played; what is done is not done again."""
    folder = plan.run(task, seed)
    data = ["--dataset.repo_id=local/" + task, f"--dataset.root={plan.data(task)}"]
    offline, online = folder / "offline", folder / "online"
    done_offline = offline / "checkpoints" / "last" / "pretrained_model"
    if not done_offline.exists():
        shutil.rmtree(offline, ignore_errors=True)
        run("lerobot-train", folder / "offline.log", [
            f"--policy.type={plan.policy}", "--policy.device=cpu", "--policy.push_to_hub=false", *data,
            f"--output_dir={offline}", f"--steps={plan.offline_steps}", f"--save_freq={plan.offline_steps}",
            f"--batch_size={BATCH}", "--num_workers=0", "--env_eval_freq=0", f"--seed={seed}",
            f"--log_freq={max(1, plan.offline_steps // 20)}", *shlex.split(plan.train),
        ])  # fmt: skip
    finished = folder / "online.done"
    if not finished.exists():
        if (online / "checkpoints" / "last").exists():
            words = [f"--output_dir={online}", "--resume=true"]
        else:
            shutil.rmtree(online, ignore_errors=True)
            words = [
                f"--policy.path={done_offline}", "--policy.device=cpu", "--env.type=koch",
                f"--env.task={task}", *data, f"--output_dir={online}", f"--seed={seed}",
                f"--online_steps={plan.online_steps}", f"--batch_size={BATCH}",
                f"--warmup_steps={min(1000, plan.online_steps // 4)}",
                f"--eval_freq={max(1, plan.online_steps // 8)}",
                f"--save_freq={max(1, plan.online_steps // 8)}", *shlex.split(plan.online),
            ]  # fmt: skip
        started = time.monotonic()
        run("lerobot-ext", folder / "online.log", ["train-online", *words])
        finished.write_text(json.dumps({"online_s": round(time.monotonic() - started, 1)}))
    found = {
        stage: play(plan, task, folder / f"eval_{stage}", place / "checkpoints/last/pretrained_model")
        for stage, place in (("offline", offline), ("online", online))
    }
    print(f"{task} seed {seed}: offline {found['offline']}, online {found['online']} of {plan.episodes}")
    return {
        "task": task,
        "seed": seed,
        **found,
        "episodes": plan.episodes,
        **json.loads(finished.read_text()),
        "curve": [
            (step, row["env/pc_success"])
            for step, row in read_metrics(online / "online.csv")[1].items()
            if "env/pc_success" in row
        ],
    }


def play(plan: Plan, task: str, folder: Path, policy: Path) -> int:
    """Successes of a policy over the evaluation's episodes."""
    info = folder / "eval_info.json"
    if not info.exists():
        run("lerobot-eval", folder.with_suffix(".log"), [
            f"--policy.path={policy}", "--policy.device=cpu", "--env.type=koch", f"--env.task={task}",
            f"--eval.n_episodes={plan.episodes}", f"--eval.batch_size={min(25, plan.episodes)}",
            "--eval.use_async_envs=false", f"--seed={EVAL_SEED}", f"--output_dir={folder}",
        ])  # fmt: skip
    return round(json.loads(info.read_text())["overall"]["pc_success"] * plan.episodes / 100)


def summary(cells: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """By task and stage: success over the seeds together with its interval, and by seed; in per cent."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for task in dict.fromkeys(cell["task"] for cell in cells):
        mine = sorted((cell for cell in cells if cell["task"] == task), key=lambda cell: cell["seed"])
        trials = sum(cell["episodes"] for cell in mine)
        found[task] = {}
        for stage in ("offline", "online"):
            low, high = wilson_interval(sum(cell[stage] for cell in mine), trials)
            found[task][stage] = {
                "success": 100 * sum(cell[stage] for cell in mine) / trials,
                "low": 100 * low,
                "high": 100 * high,
                "trials": trials,
                "by_seed": [100 * cell[stage] / cell["episodes"] for cell in mine],
            }
    return found


def markdown(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The summary as a table."""
    lines = ["| task | | success | 95 % interval | by seed |", "|---|---|---|---|---|"]
    for task, stages in found.items():
        for stage, row in stages.items():
            seeds = ", ".join(f"{value:.0f}" for value in row["by_seed"])
            lines.append(
                f"| {task} | {stage} | {row['success']:.1f} % | {row['low']:.0f} to {row['high']:.0f} % | "
                f"{seeds} |"
            )
    return "\n".join(lines)


def draw(cells: list[dict[str, Any]], path: Path) -> None:
    """Draw the success curves of all cells."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(5 * len(tasks), 3.4), layout="constrained", squeeze=False
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        for cell in (cell for cell in cells if cell["task"] == task):
            steps, rates = zip(*cell["curve"], strict=True)
            axis.plot(steps, rates, marker="o", markersize=3, label=f"seed {cell['seed']}")
        axis.set(ylim=(0, 100), xlabel="steps of the environment", ylabel="success, %", title=task)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def verdict(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """One line about all tasks."""
    parts = []
    for task, stages in found.items():
        before, after = stages["offline"], stages["online"]
        if after["low"] > before["high"]:
            word = "better beyond both intervals"
        elif after["high"] < before["low"]:
            word = "WORSE beyond both intervals"
        else:
            word = "not apart by their intervals"
        parts.append(f"{task}: offline {before['success']:.1f} %, online {after['success']:.1f} %: {word}")
    return "; ".join(parts)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", default="lift,place")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--policy", default="lapo", help="one that learns values (%(default)s)")
    parser.add_argument("--offline_steps", type=int, default=3000)
    parser.add_argument("--online_steps", type=int, default=20_000)
    parser.add_argument("--episodes", type=int, default=100, help="evaluation episodes of each cell")
    parser.add_argument("--demos", type=int, default=120, help="episodes of the prior data of a task")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, one thread each")
    parser.add_argument("--train", default="", help="more options of lerobot-train, in one text")
    parser.add_argument("--online", default="", help="more options of lerobot-ext train-online, in one text")
    parser.add_argument("--quick", action="store_true", help="one seed of reach, only shows that it runs")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/online_rl"))
    args = parser.parse_args()
    if args.quick:
        args.tasks, args.seeds, args.offline_steps, args.online_steps = "reach", 1, 10, 60
        args.episodes, args.demos = 2, 4
        args.train = "--policy.hidden_dim=16 --policy.obs_feature_dim=16"
        args.online = "--eval_episodes=2 --batch_size=8 --log_freq=30 --env.episode_length=30"
    plan = Plan(
        args.policy, args.demos, args.offline_steps, args.online_steps, args.episodes, args.train,
        args.online, args.out,
    )  # fmt: skip
    plan.out.mkdir(parents=True, exist_ok=True)
    settings = plan.out / "settings.json"
    wanted = json.dumps(plan.settings(), indent=2)
    if settings.exists() and settings.read_text() != wanted:
        raise SystemExit(f"{plan.out} holds results of other settings ({settings}); name another --out.")
    settings.write_text(wanted)

    tasks = args.tasks.split(",")
    for task in tasks:
        record(plan, task)
    jobs = [(task, seed) for seed in range(args.seeds) for task in tasks]
    with ThreadPoolExecutor(args.jobs) as pool:
        cells = list(pool.map(lambda job: run_cell(plan, *job), jobs))
    found = summary(cells)
    table = markdown(found)
    print(
        f"\n{plan.policy}: {plan.offline_steps} updates on {plan.demos} logged episodes, then "
        f"{plan.online_steps} steps of the environment\n\n{table}"
    )
    results = {"settings": plan.settings(), "summary": found, "cells": cells}
    (plan.out / "online_rl.json").write_text(json.dumps(results, indent=2))
    (plan.out / "online_rl.md").write_text(table + "\n")
    draw(cells, plan.out / "online_rl.png")
    print(verdict(found))


if __name__ == "__main__":
    main()
