# SPDX-License-Identifier: Apache-2.0
"""Where `episode_journal` keeps what, and whether the process that wrote it still records."""

import json
import os
import platform
import re
from pathlib import Path

FOLDER = "meta/journal"
_ENTRY = re.compile(r"episode_(\d+)\.meta\.parquet")


def data_part(root: Path, episode: int) -> Path:
    """Where an episode's rows are kept."""
    return root / FOLDER / f"episode_{episode:06d}.data.parquet"


def meta_part(root: Path, episode: int) -> Path:
    """Where an episode's row of `meta/episodes` is kept."""
    return root / FOLDER / f"episode_{episode:06d}.meta.parquet"


def journaled_episodes(root: Path) -> list[int]:
    """Indices of the whole episodes that the journal holds, sorted."""
    found = [_ENTRY.fullmatch(path.name) for path in (root / FOLDER).glob("episode_*.meta.parquet")]
    return sorted(int(match[1]) for match in found if match)


def recording_process(root: Path) -> int | None:
    """Id of the process that records this dataset at this moment, if its journal names one that lives."""
    try:
        session = json.loads((root / FOLDER / "session.json").read_text())
        pid, host, started = int(session["pid"]), session["host"], session["process_started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if host != platform.node() or os.name == "nt":
        return None  # cannot be asked from here
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return pid if started is None or started == _process_started(pid) else None


def _process_started(pid: int) -> int | None:
    """When a process started, in ticks since boot: with its id it names the process. `None` if unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # pid (name) state ppid …: the name may hold anything; the start is field 22.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def write_session(path: Path, first_episode: int) -> None:
    """Note this process as the one that records, from episode `first_episode` on."""
    session = {
        "pid": os.getpid(),
        "process_started": _process_started(os.getpid()),
        "host": platform.node(),
        "first_episode": first_episode,
    }
    path.write_text(json.dumps(session))
