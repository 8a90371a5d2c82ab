# SPDX-License-Identifier: Apache-2.0
"""One line for who names a checkpoint or a dataset on a stock command line that is not where it says.

LeRobot asks the Hub for a folder that it does not find, and what the user sees is a network's or a login's
error of many lines. Plugins load before the command line is read, so a look at it tells what is there
instead: a run's folder in place of its checkpoint, or a name that differs by a letter.
"""

import logging
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from lerobot_ext import last_words
from lerobot_ext.missing import options

CHECKPOINTS = ("--policy.path", "--policy.pretrained_path", "--policy.actor.pretrained_path")
_ROOT, _REPO = "--dataset.root", "--dataset.repo_id"
_OURS = "lerobot_ext"  # whose commands take a run's folder, and tell by themselves what is missing
_READERS = ("lerobot_train", "lerobot_replay")
_SHOWN = 4
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")

logger = logging.getLogger(__name__)


def hint(argv: Sequence[str] | None = None) -> None:
    """Log what is wrong with a folder on the command line; nothing where it is what LeRobot looks for.

    Args:
        argv (`Sequence[str]`, *optional*): Program and words of the command line; the process's by default.
    """
    file, *words = sys.argv if argv is None else argv
    program, given = Path(file).stem.replace("-", "_"), dict(options(words))
    if not program.startswith("lerobot_") or program == _OURS:
        return
    for option in CHECKPOINTS:
        if given.get(option):
            _tell(option, given[option], _of_checkpoint(given[option]))
    if given.get(_ROOT) and program in _READERS:
        _tell(_ROOT, given[_ROOT], _of_dataset(given[_ROOT], given.get(_REPO, "a repository")))


def _tell(option: str, value: str, found: tuple[str, str] | None) -> None:
    if found is not None:
        last_words.say(logger, logging.WARNING, "lerobot_ext: %s=%s: %s. Remedy: %s", option, value, *found)


def _of_checkpoint(name: str) -> tuple[str, str] | None:
    """What is wrong with a checkpoint's name, and what to do; nothing for one on the Hub."""
    from lerobot_ext.hub.checkpoint import CheckpointError, find_checkpoint

    folder = Path(name).expanduser()
    if not folder.is_dir():
        if not _is_path(name):
            return None
        return f"there is no such folder{_instead(folder)}; LeRobot asks the Hub for it", "correct the path"
    try:
        place = find_checkpoint(folder)
    except CheckpointError as error:
        return str(error), error.remedy
    if place == folder:
        return None
    return "this is the folder of a run and no checkpoint", f"name `{place}`"


def _of_dataset(name: str, repo_id: str) -> tuple[str, str] | None:
    """The same of a dataset's folder, which LeRobot fills from the Hub where it is none."""
    folder = Path(name).expanduser()
    if (folder / "meta" / "info.json").is_file():
        return None
    if folder.is_dir():
        return f"no meta/info.json is in it, so LeRobot asks the Hub for {repo_id}", "name a dataset's folder"
    return (
        f"there is no such folder{_instead(folder)}; LeRobot asks the Hub for {repo_id}",
        "correct the path, or leave the option out for a dataset of the Hub",
    )


def _is_path(name: str) -> bool:
    """Whether a name that is no folder cannot be meant for the Hub: a path's look, or a folder before it."""
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        return True
    return "/" in name and Path(name).parent.is_dir()


def _instead(folder: Path) -> str:
    """What the first part of a path that is missing may have meant, or what else is beside it."""
    missing = folder
    while not missing.parent.is_dir():
        missing = missing.parent
    beside = sorted(path.name for path in missing.parent.iterdir() if path.is_dir())
    near = get_close_matches(missing.name, beside, n=1)
    if near:
        return f" (is `{missing.parent / near[0]}` meant?)"
    shown = ", ".join(beside[:_SHOWN]) + (", …" if len(beside) > _SHOWN else "")
    return f" (`{missing.parent}` holds {shown or 'no folder'})"
