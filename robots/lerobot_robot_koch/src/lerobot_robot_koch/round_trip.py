# SPDX-License-Identifier: Apache-2.0
"""How long an answer takes on this bus: what a driver must know to tell a slow reply from a lost one.

Mean and deviation as TCP estimates them (RFC 6298: Jacobson's filter, Karn's rule that an exchange with a
repeated request is no sample, and a timeout that doubles while nothing at all answers).
"""

from typing import Final

_MEAN_GAIN: Final = 1 / 8
_DEVIATION_GAIN: Final = 1 / 4
_MIN_MARGIN_S: Final = 0.002
"""USB delivers once a millisecond; a program that is held up itself finds the bytes waiting."""
_GAP_DECAY: Final = 0.95
_FIRST_TIMEOUT_S: Final = 0.034
"""What dynamixel-sdk waits beyond the bytes: twice an FTDI chip's 16 ms, and 2 ms."""
_MAX_BACKOFF: Final = 16


class RoundTrip:
    """Estimate of the time from a request to the last of `n` replies.

    Each `n` has an estimate of its own; one that was never seen is taken from those that were.
    """

    def __init__(self) -> None:
        self._mean: dict[int, float] = {}
        self._deviation: dict[int, float] = {}
        self._gap: float | None = None
        self._backoff = 1

    def succeeded(self, n: int, seconds: float, gap_s: float | None = None) -> None:
        """All `n` servos answered the first request.

        Args:
            n (`int`): Servos asked.
            seconds (`float`): Time until the last had answered.
            gap_s (`float | None`, *optional*): Longest silence between the first byte and the last.
        """
        self._backoff = 1
        if gap_s is not None:
            self._gap = max(gap_s, (self._gap or 0.0) * _GAP_DECAY)
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
        known = sorted(self._mean)
        if not known:
            return None
        if n in self._mean:
            return self._mean[n]
        if len(known) == 1:
            return self._mean[known[0]] * max(n / known[0], 1.0)
        # A line through the nearest known numbers of servos: a fixed delay, and one for each servo.
        low, high = sorted(sorted(known, key=lambda k: abs(k - n))[:2])
        slope = (self._mean[high] - self._mean[low]) / (high - low)
        return max(self._mean[low] + slope * (n - low), min(self._mean.values()))

    def timeout(self, n: int) -> float:
        """How long to wait for `n` replies before asking again, in seconds."""
        mean = self.mean(n)
        if mean is None:
            return _FIRST_TIMEOUT_S
        margin = max(4 * self._deviation.get(n, 0.0), _MIN_MARGIN_S)
        return (mean + margin) * self._backoff

    def gap(self) -> float:
        """Silence after the first byte that means that no more will come, in seconds."""
        if self._gap is None:
            return _FIRST_TIMEOUT_S
        return max(2 * self._gap, _MIN_MARGIN_S) * self._backoff
