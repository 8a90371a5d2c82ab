# SPDX-License-Identifier: Apache-2.0
"""`checkpoints/last` where symbolic links are not to be had.

LeRobot points to the newest checkpoint by a symbolic link. Windows makes one for administrators and in
developer mode only, exFAT and some network shares have none at all, and the trainer ends with an error at its
first checkpoint. There `last` becomes, whichever works first:

1. a junction (Windows: a link between folders that needs no right);
2. a folder of hard links to the checkpoint's files, which takes no space;
3. a copy.

Each is a folder to every program, so `--config_path=…/checkpoints/last/pretrained_model/train_config.json
--resume=true` and `--policy.path=…/checkpoints/last/pretrained_model` work as with a link. A folder of links
or copies holds a file `POINTS_TO` with the checkpoint's name; a folder without one is not ours and is never
replaced. It takes the old one's place by renaming, so that a kill leaves one of both, and the next checkpoint
tidies up.
"""

import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from lerobot.common import train_utils

from lerobot_ext.patches import Patch

logger = logging.getLogger(__name__)

POINTER = "POINTS_TO"
NEW, OLD = ".last.new", ".last.old"
# "A required privilege is not held by the client", "Incorrect function" (a disk without links).
_WINDOWS_REFUSALS = (1314, 1)
_REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

NAME = "update_last_checkpoint"

_said = False
_patch = Patch("checkpoints", lost="without symbolic links its trainer ends at the first one")


def install(script: ModuleType) -> bool:
    """Let the training script, and a resume from the Hub, point our way; calling it again changes nothing.

    Args:
        script (`ModuleType`): `lerobot.scripts.lerobot_train`, under whatever name it runs.

    Returns:
        Whether it is in place: not with a LeRobot outside the tested window, which is logged.
    """
    return _patch.install({(script, NAME): _update, (train_utils, NAME): _update})


def uninstall() -> None:
    """Give LeRobot its own code back."""
    _patch.uninstall()


def _update(checkpoint_dir: Path) -> None:
    """Point; that `last` cannot be replaced must not end a training whose checkpoint is safe."""
    try:
        point_to(Path(checkpoint_dir), _patch.stock(NAME))
    except StaleError as error:
        logger.error("lerobot_ext: %s; the training goes on. The newest is %s.", error, checkpoint_dir)


class StaleError(OSError):
    """`last` could not be made to point to the newest checkpoint."""


def point_to(checkpoint_dir: Path, stock: Callable[[Path], object]) -> None:
    """Let `last` beside a checkpoint point to it: by LeRobot's own link, else by what this disk can do.

    Args:
        checkpoint_dir (`Path`): The checkpoint, `checkpoints/NUMBER`.
        stock (`Callable`): LeRobot's `update_last_checkpoint`.

    Raises:
        StaleError: `last` is a folder that is not ours, or is in use by another program.
        OSError: The disk is full, for instance.
    """
    last = checkpoint_dir.parent / "last"
    tidy(last)
    if os.path.isjunction(last):
        last.rmdir()  # removes the junction alone
    if not last.is_symlink() and last.is_dir():
        # This disk had no links last time, and stock trips over the folder.
        if not (last / POINTER).is_file():
            raise StaleError(f"{last} is a folder of somebody else's and was left alone: move it away")
        _replace(last, checkpoint_dir)
        return
    try:
        stock(checkpoint_dir)
    except OSError as error:
        if not _refused(error):
            raise
        _replace(last, checkpoint_dir)


def tidy(last: Path) -> None:
    """Mend what a kill in the middle of a replacement left."""
    new, old = last.with_name(NEW), last.with_name(OLD)
    if not os.path.lexists(last) and old.is_dir():
        old.rename(last)
    for left in (new, old):
        if left.is_dir():
            shutil.rmtree(left)


def _refused(error: OSError) -> bool:
    """Whether the disk, or Windows, has no links for us; anything else is an error like any other."""
    if getattr(error, "winerror", None) is not None:
        return error.winerror in _WINDOWS_REFUSALS  # type: ignore[attr-defined, unused-ignore]
    return error.errno in _REFUSALS


def _replace(last: Path, checkpoint_dir: Path) -> None:
    """Put a junction, or a folder that stands for the checkpoint, in place of `last`."""
    if not os.path.lexists(last) and _junction(checkpoint_dir, last):
        _say_once(last, "a junction")
        return
    new, old = last.with_name(NEW), last.with_name(OLD)
    linked = _fill(new, checkpoint_dir)
    try:
        if last.is_dir():
            last.rename(old)
        new.rename(last)
    except OSError as error:  # Windows, while a program has a file in it open
        raise StaleError(f"{last} cannot be replaced ({error}) and points to an older checkpoint") from error
    shutil.rmtree(old, ignore_errors=True)
    _say_once(last, "a folder of hard links" if linked else "a copy")


def _junction(target: Path, place: Path) -> bool:
    """Make a junction, where there is such a thing and the disk knows it."""
    if sys.platform != "win32":
        return False
    import _winapi

    try:
        _winapi.CreateJunction(str(target.resolve()), str(place))
    except OSError:
        return False
    return True


def _fill(folder: Path, checkpoint_dir: Path) -> bool:
    """Make `folder` hold the files of a checkpoint, by hard links or as copies.

    Returns:
        Whether every file could be linked.
    """
    linked = True
    for path in sorted(checkpoint_dir.rglob("*")):
        place = folder / path.relative_to(checkpoint_dir)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError as error:
            if not _refused(error):
                raise
            linked = False
            shutil.copy2(path, place)
    folder.mkdir(exist_ok=True)
    (folder / POINTER).write_text(f"{checkpoint_dir.name}\n", encoding="utf-8")
    return linked


def _say_once(last: Path, what: str) -> None:
    global _said
    if not _said:
        _said = True
        logger.info("lerobot_ext: symbolic links are refused here; %s is %s instead.", last, what)
