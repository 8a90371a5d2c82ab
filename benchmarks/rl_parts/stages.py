# SPDX-License-Identifier: Apache-2.0
"""What every cell is made of: logs, a training by `lerobot-train`, an evaluation by `lerobot-eval`."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from hierarchical_parts.commands import Commands

from rl_parts.methods import METHODS

DATA_SEED = 7
BATCH = 64


def data_folder(out: Path, task: str, demos: int) -> Path:
    """Root of the logs of a task; their number is in the name."""
    return out / "data" / f"{task}-{demos}"


def record(out: Path, task: str, demos: int, commands: Commands) -> None:
    """Record scripted episodes, a third each by an expert, a clumsy and a random hand; or go on with that."""
    root = data_folder(out, task, demos)
    if _recorded(root) < demos:
        commands.run(f"demos.{root.name}", [
            "lerobot-ext", "demos", f"--repo_id=local/{task}", f"--root={root}", f"--task={task}",
            f"--episodes={demos}", "--skill=mixed", f"--seed={DATA_SEED}",
        ])  # fmt: skip


def _recorded(root: Path) -> int:
    try:
        return int(json.loads((root / "meta" / "info.json").read_text())["total_episodes"])
    except FileNotFoundError:
        return 0


def skills_of(root: Path) -> dict[str, dict[str, int]]:
    """How many episodes of each skill the logs have, and how many of them succeeded."""
    episodes = json.loads((root / "meta" / "lerobot_env_koch.json").read_text())["episodes"]
    return {
        skill: {
            "episodes": sum(e["skill"] == skill for e in episodes),
            "successes": sum(e["success"] for e in episodes if e["skill"] == skill),
            "frames": sum(e["frames"] for e in episodes if e["skill"] == skill),
        }
        for skill in sorted({episode["skill"] for episode in episodes})
    }


def about_data(data: dict[str, dict[str, int]]) -> str:
    """Where logs of these skills come from, in words."""
    skills = ", ".join(f"{skill} {n['successes']} of {n['episodes']}" for skill, n in data.items())
    return f"{sum(n['episodes'] for n in data.values())} logged episodes (succeeded: {skills})"


def checkpoint(folder: Path) -> Path:
    """The policy that a training left."""
    return folder / "checkpoints" / "last" / "pretrained_model"


def train(
    commands: Commands,
    name: str,
    method: str,
    data: Path,
    folder: Path,
    *,
    steps: int,
    seed: int,
    more: tuple[str, ...] = (),
) -> float:
    """Train a method into `folder`; gives the seconds."""
    shutil.rmtree(folder, ignore_errors=True)  # what a stopped run left
    started = time.monotonic()
    commands.run(name, [
        "lerobot-train", *METHODS[method].words, "--policy.device=cpu", "--policy.push_to_hub=false",
        f"--dataset.repo_id=local/{data.name}", f"--dataset.root={data}", f"--output_dir={folder}",
        f"--steps={steps}", f"--save_freq={steps}", f"--batch_size={BATCH}", "--num_workers=0",
        "--env_eval_freq=0", f"--seed={seed}", f"--log_freq={max(1, steps // 20)}", *more,
    ])  # fmt: skip
    return time.monotonic() - started


def play(
    commands: Commands,
    name: str,
    policy: Path,
    folder: Path,
    *,
    task: str,
    episodes: int,
    seed: int,
    acting: tuple[str, ...] = (),
) -> tuple[int, float]:
    """Successes of a policy over episodes that begin the same for all policies, and the seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    commands.run(name, [
        "lerobot-eval", f"--policy.path={policy}", "--policy.device=cpu", *acting, "--env.type=koch",
        f"--env.task={task}", f"--eval.n_episodes={episodes}", f"--eval.batch_size={min(25, episodes)}",
        "--eval.use_async_envs=false", f"--seed={seed}", f"--output_dir={folder}",
    ])  # fmt: skip
    overall: dict[str, Any] = json.loads((folder / "eval_info.json").read_text())["overall"]
    return round(overall["pc_success"] * episodes / 100), time.monotonic() - started
