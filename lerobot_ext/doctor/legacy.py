# SPDX-License-Identifier: Apache-2.0
"""Fixes of a checkpoint, each into a new folder: LeRobot's own migration, and names that it got wrong.

LeRobot's migration turns every `_` of a buffer's name into a dot, so that the statistics of
`observation.images.wrist_cam` end up as those of `observation.images.wrist.cam` and are never used.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor.checkpoint_stats import renamed
from lerobot_ext.doctor.findings import Fix

if TYPE_CHECKING:
    from lerobot_ext.doctor.checkpoint import Checkpoint

_CHILD = "lerobot_ext.doctor.legacy_child"


def migration(found: "Checkpoint") -> Fix:
    """Convert a legacy checkpoint."""
    target = _new_folder(found, "migrated")
    return Fix("migrate", f"convert it into the new folder {target}", lambda: _migrate(found, target))


def renaming(found: "Checkpoint") -> Fix:
    """Give statistics the names of their features."""
    target = _new_folder(found, "renamed")
    what = f"copy it to the new folder {target} with its statistics under the names of their features"
    return Fix("rename_stats", what, lambda: _rename(found, target))


def _new_folder(found: "Checkpoint", word: str) -> Path:
    """Beside the checkpoint; for one of the Hub's cache, which is not to be added to, in this folder."""
    if Path(found.name).is_dir():
        folder = found.folder.resolve()
        return folder.with_name(f"{folder.name}_{word}")
    return Path(f"{found.name.replace('/', '_')}_{word}").absolute()


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise CommandError(f"{target} exists already", "look at it with `--policy.path`, or remove it")


def _migrate(found: "Checkpoint", target: Path) -> str:
    _refuse_existing(target)
    ran = subprocess.run(
        [sys.executable, "-m", _CHILD, "--pretrained-path", str(found.folder), "--output-dir", str(target)],
        env={"HF_HUB_OFFLINE": "1"} | os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if ran.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        last = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CommandError(f"LeRobot's migration of {found.name} fails: {last[:300]}", "nothing was changed")
    names = restore_names(target)
    also = f"; gave their names back to {', '.join(names)}" if names else ""
    return f"converted it into {target}{also}; `--policy.path={target}` from now on"


def _rename(found: "Checkpoint", target: Path) -> str:
    _refuse_existing(target)
    try:
        # The files of the Hub's cache are links; the copy holds the files themselves.
        shutil.copytree(found.folder, target)
        names = restore_names(target)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise CommandError(
            f"{target} cannot be written: {error}", "make room; nothing was changed"
        ) from error
    return f"wrote {target} with the statistics of {', '.join(names)}; `--policy.path={target}` from now on"


def restore_names(folder: Path) -> list[str]:
    """Rename statistics in `folder` whose feature differs from its name by `_` and `.` only; which."""
    from lerobot_ext.doctor.checkpoint import PIPELINES

    names: set[str] = set()
    for file in PIPELINES.values():
        for step in json.loads((folder / file).read_text(encoding="utf-8"))["steps"]:
            features = (step.get("config") or {}).get("features") or {}
            if step.get("state_file") and features:
                # The bare name: what the file says must not lead out of the new folder.
                names |= _restore(folder / Path(step["state_file"]).name, features)
    return sorted(names)


def _restore(path: Path, features: dict[str, Any]) -> set[str]:
    from safetensors.numpy import load_file, save_file

    from lerobot_ext.doctor.checkpoint_stats import load_flat

    stats = load_flat(path)
    wrong = {renamed(name, stats): name for name in features if name not in stats}
    wrong.pop("", None)
    if wrong:
        flat = {}
        for key, value in load_file(path).items():
            feature, _, statistic = key.rpartition(".")
            flat[f"{wrong.get(feature, feature)}.{statistic}"] = value
        save_file(flat, path)
    return set(wrong.values())
