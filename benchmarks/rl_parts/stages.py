# SPDX-License-Identifier: Apache-2.0
"""What every cell is made of: logs, a training by `lerobot-train`, an evaluation by `lerobot-eval`."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from hierarchical_parts.commands import Commands

DATA_SEED = 7
BATCH = 64
MIXED = "mixed"
"""A third each of the episodes by an expert, a clumsy and a random hand."""


def data_folder(out: Path, task: str, demos: int, skill: str = MIXED, *, cameras: bool = False) -> Path:
    """Root of the logs of a task; their number is in the name, and what is unusual in them."""
    unusual = [skill] * (skill != MIXED) + ["cameras"] * cameras
    return out / "data" / "-".join([task, *unusual, str(demos)])


def record(
    out: Path, task: str, demos: int, commands: Commands, skill: str = MIXED, *, cameras: bool = False
) -> None:
    """Record scripted episodes, or go on with that.

    Args:
        out (`Path`): The benchmark's folder.
        task (`str`): Of the environment.
        demos (`int`): Episodes.
        commands (`Commands`): Runs `lerobot-ext demos`.
        skill (`str`, *optional*, defaults to `"mixed"`): Of that command.
        cameras (`bool`, *optional*, defaults to `False`): With the two cameras instead of the poses.
    """
    root = data_folder(out, task, demos, skill, cameras=cameras)
    if _recorded(root) < demos:
        commands.run(f"demos.{root.name}", [
            "lerobot-ext", "demos", f"--repo_id=local/{root.name}", f"--root={root}", f"--task={task}",
            f"--episodes={demos}", f"--skill={skill}", f"--seed={DATA_SEED}",
            *(["--with-images", "--no-environment-state"] if cameras else []),
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
    policy: tuple[str, ...],
    data: Path,
    folder: Path,
    *,
    steps: int,
    seed: int,
    batch: int = BATCH,
    pool: bool = False,
) -> float:
    """Train a policy into `folder`; gives the seconds.

    Args:
        commands (`Commands`): Runs `lerobot-train`.
        name (`str`): Of its log.
        policy (`tuple[str, ...]`): Words that say which policy, and whatever else is not usual.
        data (`Path`): Root of the logs.
        folder (`Path`): Emptied before.
        steps (`int`): Of the training.
        seed (`int`): Of the training.
        batch (`int`, *optional*, defaults to `64`): Frames of a step.
        pool (`bool`, *optional*, defaults to `False`): Decode each picture once, into a memory pool.
    """
    shutil.rmtree(folder, ignore_errors=True)  # what a stopped run left
    started = time.monotonic()
    commands.run(name, [
        "lerobot-train", *policy, "--policy.device=cpu", "--policy.push_to_hub=false",
        f"--dataset.repo_id=local/{data.name}", f"--dataset.root={data}", f"--output_dir={folder}",
        f"--steps={steps}", f"--save_freq={steps}", f"--batch_size={batch}", "--num_workers=0",
        "--env_eval_freq=0", f"--seed={seed}", f"--log_freq={max(1, steps // 20)}",
    ], pool=pool)  # fmt: skip
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
    cameras: bool = False,
) -> tuple[int, float]:
    """Successes of a policy over episodes that begin the same for all policies, and the seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    started, looks = time.monotonic(), "pixels" if cameras else "state"
    commands.run(name, [
        "lerobot-eval", f"--policy.path={policy}", "--policy.device=cpu", *acting, "--env.type=koch",
        f"--env.task={task}", f"--env.obs={looks}", f"--eval.n_episodes={episodes}",
        f"--eval.batch_size={min(25, episodes)}", "--eval.use_async_envs=false",
        f"--seed={seed}", f"--output_dir={folder}",
    ])  # fmt: skip
    overall: dict[str, Any] = json.loads((folder / "eval_info.json").read_text())["overall"]
    return round(overall["pc_success"] * episodes / 100), time.monotonic() - started
