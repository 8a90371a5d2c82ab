# SPDX-License-Identifier: Apache-2.0
"""Remembers the flags that `lerobot-ext codec` found, for the warnings of a later recording.

One file for all machines that share LeRobot's folder: `$HF_LEROBOT_HOME/lerobot_ext/recording_flags.json`.
"""

import json
import platform
from datetime import date
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from lerobot_ext.data.durable import replacing
from lerobot_ext.recording.candidates import cores
from lerobot_ext.recording.load import Load

_VERSION: Final = 1


def default_path() -> Path:
    """Where the file is unless a test says otherwise."""
    from lerobot.utils.constants import HF_LEROBOT_HOME

    return Path(HF_LEROBOT_HOME) / "lerobot_ext" / "recording_flags.json"


def machine() -> str:
    """This machine, as the file names it: what was measured on another one says nothing."""
    return f"{platform.node()}, {cores()} cores"


def remember(load: Load, flags: list[str], path: Path | None = None) -> Path:
    """Keep `flags` as those that hold `load` on this machine; the file they are in.

    Raises:
        OSError: The file cannot be written.
    """
    path = path or default_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        machines = _read(path)
        found = machines.setdefault(machine(), {})
        found[load.word] = {"flags": flags, "measured": date.today().isoformat()}
        with replacing(path) as new:
            new.write_text(json.dumps({"version": _VERSION, "machines": machines}, indent=2) + "\n")
    return path


def recall(load: Load, path: Path | None = None) -> list[str]:
    """The flags that hold `load` on this machine, or the least heavier load; empty when none is known.

    A file that cannot be read is as good as none.
    """
    found = _read(path or default_path()).get(machine(), {})
    known: list[tuple[int, int, list[str]]] = []
    for word, entry in found.items():
        try:
            held, flags = Load.parse(word), [str(flag) for flag in entry["flags"]]
        except (ValueError, KeyError, TypeError):
            continue
        if held.covers(load):
            known.append((held.frames_per_s * held.frame_bytes, len(known), flags))
    return min(known)[2] if known else []


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        return {}
    machines = content.get("machines")
    kept = machines.items() if isinstance(machines, dict) else ()
    return {name: loads for name, loads in kept if isinstance(loads, dict)}
