# SPDX-License-Identifier: Apache-2.0
"""How an FTDI chip hands bytes from the bus to the USB host.

The chip collects what it receives. A full USB packet, 62 bytes besides its two of status, leaves at once.
Anything less waits until the latency timer runs out, which starts anew with each portion and by itself each
time it runs out: with the usual 16 ms an answer of a few bytes waits 0 to 16 ms.
"""

import math
from typing import Final

PORTION_BYTES: Final = 62


class LatencyTimer:
    """Sorts bytes into the portions in which they reach the host; all times in seconds on one clock."""

    def __init__(self) -> None:
        self._last_s = 0.0
        self._buffer = bytearray()
        self._waiting_s = 0.0

    def feed(self, data: bytes, end_s: float, byte_s: float, timer_s: float) -> list[tuple[float, bytes]]:
        """Bytes arrive one after the other.

        Args:
            data (`bytes`): What arrives.
            end_s (`float`): When its last byte has arrived.
            byte_s (`float`): How long a byte takes.
            timer_s (`float`): What the latency timer is set to.

        Returns:
            `list[tuple[float, bytes]]`: Portions that have left by then, `(when, bytes)`.
        """
        portions = []
        for i, byte in enumerate(data):
            at_s = end_s - (len(data) - 1 - i) * byte_s
            if self._buffer and at_s >= self._waiting_s:
                portions.append(self._leave(self._waiting_s))
            if not self._buffer:
                self._waiting_s = self._runs_out(at_s, timer_s)
            self._buffer.append(byte)
            if len(self._buffer) == PORTION_BYTES:
                portions.append(self._leave(max(at_s, self._last_s)))
        return portions

    def rest(self) -> list[tuple[float, bytes]]:
        """What still waits, and when it leaves if nothing more arrives."""
        return [self._leave(self._waiting_s)] if self._buffer else []

    def _leave(self, at_s: float) -> tuple[float, bytes]:
        portion = bytes(self._buffer)
        self._buffer.clear()
        self._last_s = at_s
        return at_s, portion

    def _runs_out(self, at_s: float, timer_s: float) -> float:
        """When the timer runs out next after `at_s`."""
        if at_s < self._last_s:
            # The rest of an earlier answer is still waiting: these bytes leave with it.
            return self._last_s
        return self._last_s + (math.floor((at_s - self._last_s) / timer_s) + 1) * timer_s
