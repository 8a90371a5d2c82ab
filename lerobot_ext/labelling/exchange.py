# SPDX-License-Identifier: Apache-2.0
"""Puts a folder in the place of another, at once where the system can."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_BEFORE: Final = ".before-label"


def exchange(new: Path, old: Path) -> None:
    """Make `new` what is called `old`, and the other way round.

    Linux swaps both names in one step. Elsewhere there are two, and a kill between them leaves `old` under
    the name that `recover` looks for.
    """
    if not _swapped(new, old):
        aside = _aside(old)
        os.rename(old, aside)
        os.rename(new, old)
        os.rename(aside, new)


def recover(folder: Path) -> None:
    """Undo an `exchange` that was cut off between its steps."""
    aside = _aside(folder)
    if aside.exists() and not folder.exists():
        os.rename(aside, folder)


def _aside(folder: Path) -> Path:
    return folder.with_name(folder.name + _BEFORE)


def _swapped(one: Path, other: Path) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    done = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE))
    return bool(done == 0)
