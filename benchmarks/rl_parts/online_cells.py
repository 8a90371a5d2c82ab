# SPDX-License-Identifier: Apache-2.0
"""A cell of the online benchmark: one method and seed on one task, from logs and then in the environment.

Its two halves are kept apart, each with its recipe: other online settings go on from the offline policy that
is there. An online run that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hierarchical_parts.commands import Commands
from hierarchical_parts.store import Store, source_fingerprint

from rl_parts import methods, stages

EVAL_SEED = 200_000


@dataclass(frozen=True)
class Conditions:
    """What is the same for all cells that are compared.

    Args:
        task (`str`): Of the environment.
        demos (`int`): Episodes of the logs.
        offline_steps (`int`): Updates before.
        online_steps (`int`): Steps of the environment.
        episodes (`int`): Evaluated episodes of each policy.
        train (`tuple[str, ...]`): More words of `lerobot-train`.
        online (`tuple[str, ...]`): More words of `lerobot-ext train-online`.
        batch (`int`): Frames of an update.
        data_seed (`int`): Of the logs.
        eval_seed (`int`): First of the evaluated episodes.
    """

    task: str
    demos: int = 120
    offline_steps: int = 3000
    online_steps: int = 20_000
    episodes: int = 100
    train: tuple[str, ...] = ()
    online: tuple[str, ...] = ()
    batch: int = stages.BATCH
    data_seed: int = stages.DATA_SEED
    eval_seed: int = EVAL_SEED

    @property
    def offline_part(self) -> dict[str, Any]:
        """What the offline half depends on."""
        return {key: value for key, value in asdict(self).items() if key not in ("online", "online_steps")}


def name(conditions: Conditions, method: str, seed: int) -> str:
    """Of a cell, in file names and progress."""
    return f"{conditions.task}.{method}.seed{seed}"


def offline_recipe(conditions: Conditions, method: str, seed: int) -> dict[str, Any]:
    """All that decides what the offline half gives, but for the code."""
    return {
        "conditions": conditions.offline_part,
        "policy": methods.fields(method, conditions.train),
        "acting": list(methods.METHODS[method].acting),
        "seed": seed,
    }


def online_recipe(conditions: Conditions, offline: dict[str, Any]) -> dict[str, Any]:
    """All that decides what the online half gives, but for the code."""
    from lerobot_ext.online_rl.settings import OnlineSettings

    return {
        "offline": offline["id"],
        "conditions": asdict(conditions),
        "words": online_words(conditions),
        "usual": OnlineSettings().as_dict(),
    }


def online_words(conditions: Conditions) -> list[str]:
    """What `lerobot-ext train-online` is told, but for places and seed."""
    eighth = max(1, conditions.online_steps // 8)
    return [
        "--env.type=koch", f"--env.task={conditions.task}", f"--online_steps={conditions.online_steps}",
        f"--batch_size={conditions.batch}", f"--warmup_steps={min(1000, conditions.online_steps // 4)}",
        f"--eval_freq={eighth}", f"--save_freq={eighth}", *conditions.online,
    ]  # fmt: skip


def run(conditions: Conditions, method: str, seed: int, out: Path, commands: Commands) -> dict[str, Any]:
    """Both halves, unless they are done."""
    offline = _offline(conditions, method, seed, out, commands)
    online = _online(conditions, method, seed, out, commands, offline)
    cell = name(conditions, method, seed)
    print(
        f"{cell}: offline {offline['successes']}, online {online['successes']} of {conditions.episodes}",
        flush=True,
    )
    return {"task": conditions.task, "method": method, "seed": seed, "offline": offline, "online": online}


def _offline(conditions: Conditions, method: str, seed: int, out: Path, commands: Commands) -> dict[str, Any]:
    store, cell = Store(out / "cells"), f"offline.{name(conditions, method, seed)}"
    recipe, folder = offline_recipe(conditions, method, seed), out / "runs" / cell
    done = store.load(cell, recipe)
    if done is not None and stages.checkpoint(folder).is_dir():
        return done
    data = stages.data_folder(out, conditions.task, conditions.demos)
    train_s = stages.train(
        commands, f"{cell}.train", (*methods.METHODS[method].words, *conditions.train), data, folder,
        steps=conditions.offline_steps, seed=seed, batch=conditions.batch,
    )  # fmt: skip
    result = _played(conditions, method, cell, folder, commands)
    result |= {"id": uuid.uuid4().hex, "train_s": round(train_s, 1)}
    store.save(cell, recipe, result)
    return result


def _online(
    conditions: Conditions,
    method: str,
    seed: int,
    out: Path,
    commands: Commands,
    offline: dict[str, Any],
) -> dict[str, Any]:
    from lerobot_ext.training.metrics_file import read_metrics

    store, cell = Store(out / "cells"), f"online.{name(conditions, method, seed)}"
    recipe, folder = online_recipe(conditions, offline), out / "runs" / cell
    done = store.load(cell, recipe)
    if done is not None:
        return done
    train_s = _go_on(conditions, seed, out, commands, recipe, cell)
    curve = [
        (step, row["env/pc_success"])
        for step, row in read_metrics(folder / "online.csv")[1].items()
        if "env/pc_success" in row
    ]
    result = _played(conditions, method, cell, folder, commands)
    result |= {"train_s": round(train_s, 1), "curve": curve}
    store.save(cell, recipe, result)
    return result


def _go_on(
    conditions: Conditions, seed: int, out: Path, commands: Commands, recipe: dict[str, Any], cell: str
) -> float:
    """The online run, resumed if one of the same recipe was stopped; gives the seconds of all its parts."""
    folder, begun = out / "runs" / cell, out / "runs" / f"{cell}.json"
    plain = json.loads(json.dumps(recipe))
    before = json.loads(begun.read_text()) if begun.exists() else {}
    resumed = before.get("recipe") == plain and (folder / "checkpoints" / "last").exists()
    spent = before["spent_s"] if resumed else 0.0
    if resumed:
        words = [f"--output_dir={folder}", "--resume=true"]
    else:
        shutil.rmtree(folder, ignore_errors=True)
        begun.write_text(json.dumps({"recipe": plain, "spent_s": 0.0}))
        data = stages.data_folder(out, conditions.task, conditions.demos)
        policy = stages.checkpoint(out / "runs" / cell.replace("online.", "offline.", 1))
        words = [
            f"--policy.path={policy}", "--policy.device=cpu", f"--dataset.repo_id=local/{data.name}",
            f"--dataset.root={data}", f"--output_dir={folder}", f"--seed={seed}", *recipe["words"],
        ]  # fmt: skip
    started = time.monotonic()
    try:
        commands.run(f"{cell}.train", ["lerobot-ext", "train-online", *words], append=resumed)
    finally:
        spent += time.monotonic() - started
        begun.write_text(json.dumps({"recipe": plain, "spent_s": spent}))
    return spent


def _played(
    conditions: Conditions, method: str, cell: str, folder: Path, commands: Commands
) -> dict[str, Any]:
    successes, eval_s = stages.play(
        commands, f"{cell}.eval", stages.checkpoint(folder), folder / "eval",
        task=conditions.task, episodes=conditions.episodes, seed=conditions.eval_seed,
        acting=methods.METHODS[method].acting,
    )  # fmt: skip
    return {
        "successes": successes,
        "episodes": conditions.episodes,
        "eval_s": round(eval_s, 1),
        "measured": datetime.now().isoformat(timespec="seconds"),
        "source": source_fingerprint(methods.package(method)),
    }


def found(out: Path) -> tuple[list[Conditions], list[dict[str, Any]]]:
    """The finished cells that are there, and the conditions of each.

    Raises:
        SystemExit: There are none.
    """
    store = Store(out / "cells")
    offline = {cell.partition(".")[2]: result for cell, _, result in store.all("offline")}
    made, every = [], []
    for cell, recipe, online in store.all("online"):
        task, method, seed = cell.removeprefix("online.").split(".")
        before = offline.get(f"{task}.{method}.{seed}")
        if before is None or before["id"] != recipe["offline"]:
            print(f"left out: {cell}, whose offline policy is no longer there")
            continue
        given = {key: tuple(v) if isinstance(v, list) else v for key, v in recipe["conditions"].items()}
        made.append(Conditions(**given))
        number = int(seed.removeprefix("seed"))
        every.append({"task": task, "method": method, "seed": number, "offline": before, "online": online})
    if not every:
        raise SystemExit(f"{out} holds no finished cell; run the benchmark first.")
    return made, every
