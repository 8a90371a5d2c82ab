# SPDX-License-Identifier: Apache-2.0
"""Prepared faults for the doctor: each builds one broken thing and says what must be found."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot_ext.doctor.findings import Section


@dataclass(frozen=True)
class World:
    """What a fault is built in.

    Args:
        tmp (`Path`): An empty folder of its own.
        originals (`Path`): A healthy checkpoint `checkpoint` and datasets, to copy from.
    """

    tmp: Path
    originals: Path


@dataclass(frozen=True)
class Fault:
    """One broken thing.

    Args:
        name (`str`): What is broken, in words.
        kind (`str`): The finding's kind.
        subject (`str`): Its subject, exactly.
        examine (`Callable`): Builds it and has the doctor look; the section.
        level (`str`): Its level.
    """

    name: str
    kind: str
    subject: str
    examine: Callable[[World], Section]
    level: str = "problem"


def merged(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy of `base` with some values replaced."""
    return {**base, **changes}
