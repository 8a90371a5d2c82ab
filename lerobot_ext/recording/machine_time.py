# SPDX-License-Identifier: Apache-2.0
"""How busy the whole machine is: a recording is also slowed down by what others run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_STAT: Final = Path("/proc/stat")
_IDLE: Final = (3, 4)  # idle, and waiting for a disk


@dataclass(frozen=True)
class MachineTime:
    """Ticks of all cores since the machine was started.

    Args:
        busy (`int`): Spent on anything.
        total (`int`): All of them.
    """

    busy: int
    total: int

    @classmethod
    def now(cls, path: Path = _STAT) -> Self | None:
        """At this moment; `None` where the system does not say (only Linux does, in this way)."""
        try:
            with open(path, encoding="ascii") as file:
                name, *words = file.readline().split()
            ticks = [int(word) for word in words[:8]]
        except (OSError, ValueError):
            return None
        if name != "cpu" or len(ticks) < max(_IDLE) + 1:
            return None
        total = sum(ticks)
        return cls(total - sum(ticks[place] for place in _IDLE), total)

    def share_since(self, before: "MachineTime") -> float | None:
        """Of the cores, how much was busy since `before`; `None` when no tick has passed."""
        passed = self.total - before.total
        return (self.busy - before.busy) / passed if passed > 0 else None
