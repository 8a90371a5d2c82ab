# SPDX-License-Identifier: Apache-2.0
"""Old values that stood in for ones which did not come in time, on their way from the bus to a record."""

from collections import deque
from dataclasses import dataclass
from typing import Final

_MAX_WAITING: Final = 10_000  # nobody takes them when nothing is recorded


@dataclass(frozen=True, slots=True)
class StaleValue:
    """One value that was used although it was old.

    Args:
        device (`str`): `koch_follower` or `koch_leader`.
        motor (`str`): Joint name, such as `elbow_flex`.
        age_ms (`float`): How long before its use the value was received, in milliseconds.
    """

    device: str
    motor: str
    age_ms: float


class StaleJournal:
    """Stale values in the order in which they were used, until somebody takes them."""

    def __init__(self) -> None:
        self._values: deque[StaleValue] = deque(maxlen=_MAX_WAITING)
        self.n_reads = 0
        """How often a device was read for an observation or an action."""

    def start_read(self, device: str) -> None:
        """A device is about to be read: what it noted before and nobody took was never recorded."""
        self.n_reads += 1
        waiting = [value for value in self._values if value.device != device]
        if len(waiting) < len(self._values):
            self._values.clear()
            self._values.extend(waiting)

    def add(self, value: StaleValue) -> None:
        """Note one; the oldest is forgotten when nobody takes them."""
        self._values.append(value)

    def take(self) -> list[StaleValue]:
        """All that were noted since the last call."""
        taken = []
        while self._values:
            taken.append(self._values.popleft())
        return taken


JOURNAL: Final = StaleJournal()
"""Where every bus of this process notes them; `take` is called once for each frame that is recorded."""
