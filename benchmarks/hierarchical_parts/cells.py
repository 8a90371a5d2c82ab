# SPDX-License-Identifier: Apache-2.0
"""A cell: one policy trained on one task from one seed, and its evaluations, by the stock commands.

A training ends at the task's last point; the checkpoints at the earlier points are evaluated too. They lie
within one learning-rate schedule, so an early point is what a training of that length has to show at that
time, not the best that so few steps could give.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierarchical_parts import data, methods
from hierarchical_parts.commands import Commands
from hierarchical_parts.settings import EVAL_SEED, OURS, Settings, Task
from hierarchical_parts.store import Store, source_fingerprint

ON_OURS = ("nulling", "detection", "filter", "latency", "quality", "deadlines", "speed")
"""What is measured on our trained policies."""


@dataclass(frozen=True)
class Cell:
    """One training.

    Args:
        task (`Task`): On which task.
        method (`str`): Which policy.
        seed (`int`): From which seed.
    """

    task: Task
    method: str
    seed: int

    @property
    def name(self) -> str:
        """In file names and progress."""
        return f"{self.task.name}.{self.method}.seed{self.seed}"

    def folder(self, settings: Settings) -> Path:
        """Where the training writes."""
        return settings.out / "train" / self.name

    def checkpoint(self, settings: Settings, step: int) -> Path:
        """The policy after `step` steps."""
        return self.folder(settings) / "checkpoints" / f"{step:06d}" / "pretrained_model"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a training.

    Args:
        cell (`Cell`): Which training.
        step (`int`): Which checkpoint.
        variant (`str`): How; a key of the method's `variants`.
    """

    cell: Cell
    step: int
    variant: str

    @property
    def name(self) -> str:
        """In file names and progress."""
        return f"{self.cell.name}.{self.step}" + (f".{self.variant}" if self.variant else "")


def cells(settings: Settings) -> list[Cell]:
    """All trainings; the first seed of everything comes first, so that there is soon something to see."""
    return [
        Cell(task, method, seed)
        for seed in settings.seeds
        for task in settings.tasks
        for method in settings.methods
    ]


def evaluations(cell: Cell, settings: Settings) -> list[Evaluation]:
    """What is evaluated of a training; the end of it first.

    A variant that only costs less (10 steps instead of 100) is evaluated at every point, the others at the
    end of the training only.
    """
    variants = list(methods.METHODS[cell.method].variants)[-1 if settings.quick else 0 :]
    cheap = variants[-1]
    points = cell.task.points
    return [
        Evaluation(cell, step, variant)
        for step in reversed(points)
        for variant in variants
        if step == points[-1] or variant == cheap
    ]


def train_recipe(cell: Cell, settings: Settings) -> dict[str, Any]:
    """All that decides what a training gives, but for the code."""
    task = cell.task
    return {
        "policy": methods.fields(cell.method, task),
        "steps": task.points[-1],
        "points": task.points,
        "batch": task.batch,
        "demos": task.demos,
        "seed": cell.seed,
        "device": settings.device,
    }


def trained(cell: Cell, settings: Settings, store: Store) -> dict[str, Any] | None:
    """The record of a training that is done, else None."""
    found = store.load(f"train.{cell.name}", train_recipe(cell, settings))
    there = all(cell.checkpoint(settings, step).is_dir() for step in cell.task.points)
    return found if found is not None and there else None


def train(cell: Cell, settings: Settings, store: Store, commands: Commands) -> dict[str, Any]:
    """Train unless that is done."""
    done = trained(cell, settings, store)
    if done is not None:
        return done
    task, out = cell.task, cell.folder(settings)
    shutil.rmtree(out, ignore_errors=True)  # what was left of a training that was stopped
    started = time.monotonic()
    commands.run(f"train.{cell.name}", train_command(cell, settings), pool=task.cameras)
    for folder in out.joinpath("checkpoints").iterdir():
        if folder.is_symlink():
            continue
        shutil.rmtree(folder / "training_state", ignore_errors=True)
        if int(folder.name) not in task.points:
            shutil.rmtree(folder)
    result = {
        "id": uuid.uuid4().hex,
        "wall_s": time.monotonic() - started,
        "parameters": methods.count(cell.method, task),
        "source": source_fingerprint("lerobot_policy_hierarchical_diffusion"),
        "command": train_command(cell, settings),
    }
    for stale in stale_names(cell):
        store.forget(stale)
    store.save(f"train.{cell.name}", train_recipe(cell, settings), result)
    return result


def stale_names(cell: Cell) -> list[str]:
    """Patterns of the results that were measured on a former training of this cell."""
    stale = [f"success.{cell.name}.*"]
    if cell.method == OURS:
        stale += [f"{kind}.{cell.task.name}.seed{cell.seed}*" for kind in ON_OURS]
    return stale


def train_command(cell: Cell, settings: Settings) -> list[str]:
    """`lerobot-train` of a cell."""
    task = cell.task
    return [
        "lerobot-train",
        f"--dataset.repo_id={data.repo_id(task, 'train')}",
        f"--dataset.root={data.folder(task, settings, 'train')}",
        *methods.flags(methods.fields(cell.method, task)),
        f"--policy.device={settings.device}",
        "--policy.push_to_hub=false",
        f"--steps={task.points[-1]}",
        f"--batch_size={task.batch}",
        "--num_workers=0",
        f"--save_freq={math.gcd(*task.points)}",
        "--log_freq=50",
        "--env_eval_freq=0",
        f"--seed={cell.seed}",
        f"--output_dir={cell.folder(settings)}",
        "--wandb.enable=false",
    ]


def evaluation_recipe(what: Evaluation, settings: Settings, training: dict[str, Any]) -> dict[str, Any]:
    """All that decides what an evaluation gives."""
    return {
        "training": training["id"],
        "step": what.step,
        "variant": methods.METHODS[what.cell.method].variants[what.variant],
        "episodes": settings.episodes,
        "seed": first_seed(what.cell.seed),
        "batch": settings.eval_batch,
    }


def first_seed(seed: int) -> int:
    """First of the consecutive seeds of the evaluated episodes, the same for all policies."""
    return EVAL_SEED + 1000 * seed


def evaluate(
    what: Evaluation, settings: Settings, store: Store, commands: Commands, training: dict[str, Any]
) -> dict[str, Any]:
    """Evaluate unless that is done."""
    recipe = evaluation_recipe(what, settings, training)
    name = f"success.{what.name}"
    done = store.load(name, recipe)
    if done is not None:
        return done
    cell, out = what.cell, settings.out / "eval" / what.name
    shutil.rmtree(out, ignore_errors=True)
    started = time.monotonic()
    commands.run(
        name,
        [
            "lerobot-eval",
            f"--policy.path={cell.checkpoint(settings, what.step)}",
            f"--policy.device={settings.device}",
            *methods.flags(recipe["variant"]),
            "--env.type=koch",
            f"--env.task={cell.task.koch}",
            f"--env.obs={cell.task.observation}",
            f"--eval.n_episodes={settings.episodes}",
            f"--eval.batch_size={settings.eval_batch}",
            "--eval.use_async_envs=false",
            f"--seed={recipe['seed']}",
            f"--output_dir={out}",
        ],
    )
    successes = read_successes(out / "eval_info.json")[: settings.episodes]
    shutil.rmtree(out)  # videos
    result = {
        "task": cell.task.name,
        "method": cell.method,
        "variant": what.variant,
        "seed": cell.seed,
        "step": what.step,
        "successes": successes,
        "parameters": training["parameters"],
        "source": training["source"],
        "wall_s": time.monotonic() - started,
    }
    store.save(name, recipe, result)
    return result


def read_successes(path: Path) -> list[bool]:
    """Each episode's success from what `lerobot-eval` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [bool(success) for part in content["per_task"] for success in part["metrics"]["successes"]]


def ours_trained(task: Task, settings: Settings, store: Store) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Our trained policies of a task, with their records."""
    for seed in settings.seeds:
        cell = Cell(task, OURS, seed)
        training = trained(cell, settings, store)
        if training is not None:
            yield cell, training
