# SPDX-License-Identifier: Apache-2.0
"""How long an answer takes on this bus: what a driver must know to tell a slow reply from a lost one.

Mean and deviation as TCP estimates them (RFC 6298: Jacobson's filter, Karn's rule that an exchange with a
repeated request is no sample, and a timeout that doubles while nothing at all answers).
"""

from typing import Final

_MEAN_GAIN: Final = 1 / 8
_DEVIATION_GAIN: Final = 1 / 4
_MIN_MARGIN_S: Final = 0.003
"""A host that is busy for a moment is no lost packet."""
_FIRST_TIMEOUT_S: Final = 0.034
"""What dynamixel-sdk waits beyond the bytes: twice an FTDI chip's 16 ms, and 2 ms."""
_MAX_BACKOFF: Final = 16


class RoundTrip:
    """Estimate of the time from a request to the last of `n` replies.

    Each `n` has an estimate of its own; one that was never seen is taken from the nearest that was, in
    proportion.
    """

    def __init__(self) -> None:
        self._mean: dict[int, float] = {}
        self._deviation: dict[int, float] = {}
        self._backoff = 1

    def succeeded(self, n: int, seconds: float) -> None:
        """All `n` servos answered the first request, the last after `seconds`."""
        self._backoff = 1
        if n not in self._mean:
            self._mean[n], self._deviation[n] = seconds, seconds / 2
            return
        error = seconds - self._mean[n]
        self._deviation[n] += _DEVIATION_GAIN * (abs(error) - self._deviation[n])
        self._mean[n] += _MEAN_GAIN * error

    def failed(self) -> None:
        """Nothing came within the timeout: the bus may have become slower."""
        self._backoff = min(2 * self._backoff, _MAX_BACKOFF)

    def mean(self, n: int) -> float | None:
        """Expected time for `n` replies, in seconds; `None` before the first one."""
        if n in self._mean:
            return self._mean[n]
        if not self._mean:
            return None
        nearest = min(self._mean, key=lambda known: abs(known - n))
        return self._mean[nearest] * max(n / nearest, 1.0)

    def timeout(self, n: int) -> float:
        """How long to wait for `n` replies before asking again, in seconds."""
        mean = self.mean(n)
        if mean is None:
            return _FIRST_TIMEOUT_S
        margin = max(4 * self._deviation.get(n, 0.0), _MIN_MARGIN_S)
        return (mean + margin) * self._backoff
