# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in LeRobot's layout, with what an online run has besides: `training_state/online.json`.

A checkpoint appears whole: it is written under another name and put in its place at once.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lerobot.common.train_utils import get_step_checkpoint_dir, save_checkpoint, update_last_checkpoint
from lerobot.optim import load_optimizer_state
from lerobot.utils.constants import CHECKPOINTS_DIR, PRETRAINED_MODEL_DIR, TRAINING_STATE_DIR

from lerobot_ext.cli.command import CommandError
from lerobot_ext.data.durable import flush_to_disk
from lerobot_ext.training.last_checkpoint import point_to

from .settings import OnlineSettings

STATE = "online.json"
_UNFINISHED = ".unfinished"


@dataclass
class Progress:
    """What is done; everything else of a run follows from it, the seed and the replay on disk.

    Args:
        episodes (`int`): Collected.
        env_steps (`int`): Their frames.
        updates (`int`): Of the policy.
        evaluated_at (`int`): Steps at the last evaluation; -1 before the first.
        logged_at (`int`): Steps at the last row of `metrics.csv`.
        saved_at (`int`): Steps at the last regular checkpoint.
        recent (`list[bool]`): Success of the last episodes, for the progress bar.
    """

    episodes: int = 0
    env_steps: int = 0
    updates: int = 0
    evaluated_at: int = -1
    logged_at: int = 0
    saved_at: int = 0
    recent: list[bool] | None = None


def save(
    folder: Path, progress: Progress, settings: OnlineSettings, cfg: Any, policy: Any, optimizer: Any,
    preprocessor: Any, postprocessor: Any,
) -> Path:  # fmt: skip
    """Write `folder/checkpoints/STEPS` and let `last` point to it.

    Args:
        folder (`Path`): Of the run.
        progress (`Progress`): Of the run.
        settings (`OnlineSettings`): Of the run.
        cfg: LeRobot's `TrainPipelineConfig`.
        policy: As it is now.
        optimizer: Its.
        preprocessor: Its.
        postprocessor: Its.
    """
    place: Path = get_step_checkpoint_dir(folder, settings.online_steps, progress.env_steps)
    written = place.with_name(place.name + _UNFINISHED)
    shutil.rmtree(written, ignore_errors=True)
    save_checkpoint(
        checkpoint_dir=written,
        step=progress.env_steps,
        cfg=cfg,
        policy=policy,
        optimizer=optimizer,
        preprocessor=preprocessor,
        postprocessor=postprocessor,
        num_processes=1,
        batch_size=settings.batch_size,
    )
    state = {"settings": settings.as_dict(), "progress": asdict(progress)}
    (written / TRAINING_STATE_DIR / STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")
    for file in written.rglob("*"):
        flush_to_disk(file)
    old = place.with_name(f"{place.name}.old")
    if place.exists():
        place.rename(old)
    written.rename(place)
    flush_to_disk(place.parent)
    shutil.rmtree(old, ignore_errors=True)
    point_to(place, update_last_checkpoint)
    return place


def latest(folder: Path) -> Path:
    """The newest whole checkpoint of an online run.

    Raises:
        CommandError: There is none.
    """
    found: list[Path] = sorted(
        (path for path in (folder / CHECKPOINTS_DIR).glob("*") if path.name.isdigit()),
        key=lambda path: int(path.name),
    )
    found = [path for path in found if (path / TRAINING_STATE_DIR / STATE).is_file()]
    if not found:
        raise CommandError(
            f"{folder} holds no checkpoint of `lerobot-ext train-online`",
            "name the --output_dir of such a run, or leave --resume out and name a --policy.path",
        )
    return found[-1]


def read_state(checkpoint: Path) -> tuple[OnlineSettings, Progress]:
    """Settings and progress of a checkpoint.

    Raises:
        CommandError: They cannot be read.
    """
    path = checkpoint / TRAINING_STATE_DIR / STATE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return OnlineSettings(**state["settings"]), Progress(**state["progress"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"{path} is damaged: {error}", "remove this checkpoint and resume again"
        ) from error


def load_optimizer(optimizer: Any, pretrained: Path) -> str:
    """Give an optimizer the state it had when a checkpoint was written.

    Args:
        optimizer: Of the policy, new.
        pretrained (`Path`): The checkpoint's `pretrained_model`.

    Returns:
        `str`: Empty, or why it begins anew.

    Raises:
        ValueError, TypeError, KeyError: Its state is of another policy.
    """
    state = pretrained.parent / TRAINING_STATE_DIR
    if pretrained.name != PRETRAINED_MODEL_DIR or not (state / "optimizer_state.safetensors").is_file():
        return f"{pretrained} comes without its optimizer's state, which begins anew"
    load_optimizer_state(optimizer, state)
    return ""
