# SPDX-License-Identifier: Apache-2.0
"""How long an answer takes on this bus: what a driver must know to tell a slow reply from a lost one.

Mean and deviation as TCP estimates them (RFC 6298: Jacobson's filter, Karn's rule that an exchange with a
repeated request is no sample, and a timeout that doubles while nothing at all answers). In addition a single
slow answer counts only a little, because it says more about a busy host than about the bus.
"""

from typing import Final

_MEAN_GAIN: Final = 1 / 8
_DEVIATION_GAIN: Final = 1 / 4
_OUTLIER_S: Final = 0.002
"""A sample counts as no more than this, and two deviations, above the mean."""
_MIN_MARGIN_S: Final = 0.002
"""USB delivers once a millisecond; a program that is held up itself finds the bytes waiting."""
PATIENT_S: Final = 0.034
"""What dynamixel-sdk waits beyond the bytes: twice an FTDI chip's 16 ms, and 2 ms."""
_MAX_BACKOFF: Final = 16
FAST: Final = 0
"""In place of the number of servos: a Fast Sync Read."""


class _Estimate:
    """Running mean and mean deviation of a duration."""

    def __init__(self, first_s: float) -> None:
        self.mean = first_s
        self.deviation = first_s / 4

    def add(self, seconds: float) -> None:
        error = min(seconds - self.mean, _OUTLIER_S + 2 * self.deviation)
        # A quicker answer than expected is no reason to wait longer for the next one.
        spread = abs(error) if error > 0 else min(-error, self.deviation)
        self.deviation += _DEVIATION_GAIN * (spread - self.deviation)
        self.mean += _MEAN_GAIN * error

    @property
    def limit(self) -> float:
        """Longer than this is not expected."""
        return self.mean + max(4 * self.deviation, _MIN_MARGIN_S)


class RoundTrip:
    """Estimate of the time from a request to the last of `n` replies, without the time of their bytes.

    Each `n` has an estimate of its own, and so has a Fast Sync Read (`FAST`), which all servos answer in one
    packet; one that was never seen is taken from those that were.
    """

    def __init__(self) -> None:
        self._times: dict[int, _Estimate] = {}
        self._gap: _Estimate | None = None
        self._backoff = 1

    def succeeded(self, n: int, seconds: float, gap_s: float | None = None) -> None:
        """All `n` servos answered the first request.

        Args:
            n (`int`): Servos asked, or `FAST`.
            seconds (`float`): Time until the last had answered.
            gap_s (`float | None`, *optional*): Longest silence between the first byte and the last.
        """
        self._backoff = 1
        if n in self._times:
            self._times[n].add(seconds)
        else:
            self._times[n] = _Estimate(seconds)
        if gap_s is not None:
            if self._gap is None:
                self._gap = _Estimate(gap_s)
            self._gap.add(gap_s)

    def heard(self) -> None:
        """Somebody answered, though not all at the first request: the bus lives, no sample."""
        self._backoff = 1

    def failed(self) -> None:
        """Nothing came within the timeout: the bus may have become slower."""
        self._backoff = min(2 * self._backoff, _MAX_BACKOFF)

    def mean(self, n: int) -> float | None:
        """Expected time for `n` replies, in seconds; `None` before the first one."""
        known = sorted(set(self._times) - {FAST})
        if n == FAST:
            # At least as long as one reply: of an adapter that holds back what does not fill a portion, only
            # the lucky long answers are quicker, and they alone would be counted.
            return max((self._times[k].mean for k in (FAST, 1) if k in self._times), default=None)
        if n in self._times:
            return self._times[n].mean
        if not known:
            return None
        if len(known) == 1:
            return self._times[known[0]].mean * max(n / known[0], 1.0)
        # A line through the nearest known numbers of servos: a fixed delay, and one for each servo.
        low, high = sorted(sorted(known, key=lambda k: abs(k - n))[:2])
        slope = (self._times[high].mean - self._times[low].mean) / (high - low)
        fastest = min(self._times[k].mean for k in known)
        return max(self._times[low].mean + slope * (n - low), fastest)

    def timeout(self, n: int) -> float:
        """How long to wait for `n` replies before asking again, in seconds."""
        mean = self.mean(n)
        if mean is None:
            return PATIENT_S
        limits = [self._times[k].limit for k in ((FAST, 1) if n == FAST else (n,)) if k in self._times]
        return max(limits, default=mean + _MIN_MARGIN_S) * self._backoff

    def gap(self) -> float:
        """Silence after the first byte that means that no more will come, in seconds."""
        if self._gap is None:
            return PATIENT_S
        # An adapter that passes on portions is silent between them for as long as before the first.
        return max(self._gap.limit, self.mean(1) or 0.0) * self._backoff
