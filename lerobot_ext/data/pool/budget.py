# SPDX-License-Identifier: Apache-2.0
"""What `LEROBOT_EXT_POOL` asks for; imports nothing heavy."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

POOL = "LEROBOT_EXT_POOL"
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_PATTERN = re.compile(
    r"(?P<disk>disk:)?(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt])(?P<binary>i?b)?"
    r"(?::(?P<height>\d+)x(?P<width>\d+))?(?:@(?P<folder>.+))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PoolBudget:
    """How much may be held, where, and at which size.

    Args:
        n_bytes (`int`): At most so many bytes of pictures, of all datasets of a process together.
        size (`tuple[int, int]`, *optional*): Height and width that pictures are held and served at; their own
            by default.
        folder (`Path`, *optional*): Keep them in files of this folder instead of memory.
    """

    n_bytes: int
    size: tuple[int, int] | None = None
    folder: Path | None = None


def parse_budget(text: str) -> PoolBudget:
    """Read `8GiB`, `8GiB:240x320`, `disk:20GiB` or `disk:20GiB:240x320@/fast/folder`.

    Args:
        text (`str`): Units are KiB to TiB, or KB to TB for powers of 1000; `8G` is 8 GiB.

    Raises:
        ValueError: It is none of these; the message names the variable, the value and the remedy.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise _refused(text, "it is no amount of memory")
    unit = match["unit"].lower()
    decimal = (match["binary"] or "").lower() == "b"
    factor = 1000 ** "kmgt".index(unit) * 1000 if decimal else _UNITS[unit]
    n_bytes = int(float(match["number"]) * factor)
    if n_bytes < 1:
        raise _refused(text, "it is no room at all")
    size = (int(match["height"]), int(match["width"])) if match["height"] else None
    if size is not None and min(size) < 1:
        raise _refused(text, "a picture needs a height and a width of at least 1")
    if match["folder"] and not match["disk"]:
        raise _refused(text, "a folder goes with `disk:`")
    folder = None
    if match["disk"]:
        folder = Path(match["folder"]).expanduser() if match["folder"] else default_folder()
    return PoolBudget(n_bytes, size, folder)


def budget_from_environment() -> PoolBudget | None:
    """What `LEROBOT_EXT_POOL` says; `None` where it is unset, empty or `off`.

    Raises:
        ValueError: It cannot be read.
    """
    text = os.environ.get(POOL, "").strip()
    return None if text.lower() in ("", "off") else parse_budget(text)


def size_of_backend(backend: str) -> tuple[int, int] | None:
    """Height and width that a video backend of the name `pyav:HxW` gives."""
    match = re.fullmatch(r"pyav:(\d+)x(\d+)", backend)
    return (int(match[1]), int(match[2])) if match else None


def default_folder() -> Path:
    """Where `disk:` keeps its files: a folder of the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "lerobot_ext" / "pool"


def _refused(text: str, why: str) -> ValueError:
    return ValueError(
        f"environment variable {POOL} is {text!r}: {why}; set it to something like 8GiB, 8GiB:240x320"
        " (height x width), disk:20GiB or disk:20GiB@/a/folder, or unset it"
    )
