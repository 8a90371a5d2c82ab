# SPDX-License-Identifier: Apache-2.0
"""Sizes as people write and read them: `24GiB`, `512 MB`."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}


def read_size(text: str) -> int:
    """Bytes of `24GiB`, `24 GB`, `1.5e9`.

    Raises:
        ValueError: It is no size, or none above zero.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:[eE]\d+)?)\s*([a-zA-Z]*)\s*", text)
    factor = _UNITS.get(found.group(2).upper()) if found else None
    size = int(float(found.group(1)) * factor) if found and factor else 0
    if size <= 0:
        raise ValueError(f"{text!r} is no size of memory: write 24GiB, 24GB or 512MiB")
    return size


def write_size(size: int) -> str:
    """A size with three digits: `1.23 GiB`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(size) >= factor:
            return (
                f"{size / factor:.3g} {unit}" if abs(size) < 1000 * factor else f"{size / factor:.0f} {unit}"
            )
    return f"{size} B"
