# SPDX-License-Identifier: Apache-2.0
"""Where a robot's time goes within a frame, told by the robot itself, for whoever wants to know.

    with SPENT.on("cameras"):
        observation = read_everything()      # what is spent on "bus" within it does not count as "cameras"

Nothing else is imported here: a robot can afford it, whether or not anything is recorded.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final


class _Open(threading.local):
    """Parts that a thread is in, innermost last: seconds that went to parts within."""

    def __init__(self) -> None:
        self.within: list[float] = []


class Spent:
    """Sums of seconds by part.

    Args:
        clock (`Callable`, *optional*): Says the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}
        self._open = _Open()

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count the time of the body to `part`, but for what is counted to another part within."""
        self._open.within.append(0.0)
        begun = self._clock()
        try:
            yield
        finally:
            took = self._clock() - begun
            own = took - self._open.within.pop()
            if self._open.within:
                self._open.within[-1] += took
            self._seconds[part] = self._seconds.get(part, 0.0) + own

    def take(self) -> dict[str, float]:
        """Seconds by part since the last call."""
        taken, self._seconds = self._seconds, {}
        return taken


SPENT: Final = Spent()
"""What all devices of this process tell."""
