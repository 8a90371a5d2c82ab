# SPDX-License-Identifier: Apache-2.0
"""Tells when the host, and not a driver or a fault, held up the bytes of a pseudo-terminal.

Between a bench and its client the kernel's worker threads carry the bytes; on a busy machine they may wait
for a processor or for a disk, which neither end can see. A process of its own sends a byte through a
pseudo-terminal every few milliseconds and notes whenever it took too long.
"""

import multiprocessing as mp
import os
import select
import time
import tty
from typing import Any, Final

from koch_bus_parts.machine import HOST_STALL_MS, prefer_this_process

_PERIOD_S: Final = 0.005
_WAIT_MS: Final = 5000
_N_KEPT: Final = 4096
_FORK: Final = mp.get_context("fork")


class Canary:
    """Runs until `stop`; children forked after its start can ask it.

    Example:
        ```python
        canary = Canary()
        print(canary.delays(time.monotonic() - 10))
        canary.stop()
        ```
    """

    def __init__(self) -> None:
        self._count: Any = _FORK.Value("q", 0)
        self._spans: Any = _FORK.Array("d", 2 * _N_KEPT, lock=False)
        self._process = _FORK.Process(target=self._sing, args=(os.getpid(),), daemon=True)
        self._process.start()
        self.pid = self._process.pid or 0

    def delays(self, since_s: float) -> set[tuple[float, float]]:
        """When the host held it up for more than 10 ms, `(from, until)` on the monotonic clock."""
        n = min(self._count.value, _N_KEPT)
        spans = zip(self._spans[: 2 * n : 2], self._spans[1 : 2 * n : 2], strict=True)
        return {(begin, end) for begin, end in spans if end >= since_s}

    def stop(self) -> None:
        """End its process."""
        self._process.kill()
        self._process.join()

    def _sing(self, parent: int) -> None:
        prefer_this_process(real_time=True)
        master, slave = os.openpty()
        tty.setraw(slave)
        poller = select.poll()
        poller.register(slave, select.POLLIN)
        while os.getppid() == parent:
            start_s = time.monotonic()
            os.write(master, b"\0")
            poller.poll(_WAIT_MS)
            os.read(slave, 1)
            time.sleep(_PERIOD_S)
            # Being woken too late is the host's doing as well.
            end_s = time.monotonic() - _PERIOD_S
            if end_s - start_s > HOST_STALL_MS / 1000:
                self._note(start_s, end_s)

    def _note(self, begin_s: float, end_s: float) -> None:
        place = 2 * (self._count.value % _N_KEPT)
        self._spans[place], self._spans[place + 1] = begin_s, end_s
        self._count.value += 1


def worst_ms(delays: set[tuple[float, float]], begin_s: float, end_s: float) -> float:
    """The longest of `delays` that overlaps a time, in milliseconds; 0 if none does."""
    return max((1000 * (b - a) for a, b in delays if a < end_s and b > begin_s), default=0.0)
