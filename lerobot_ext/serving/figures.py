# SPDX-License-Identifier: Apache-2.0
"""Latencies and rates of a session, in bounded memory."""

import threading
import time
from collections import deque
from typing import Final

_KEPT: Final = 10_000


class Latencies:
    """Collects durations; the newest ten thousand count for the percentiles."""

    def __init__(self) -> None:
        self._ms: deque[float] = deque(maxlen=_KEPT)
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self.count = 0

    def add(self, ms: float) -> None:
        """Note one duration in milliseconds."""
        with self._lock:
            self._ms.append(ms)
            self.count += 1

    def percentile(self, share: float) -> float | None:
        """The duration that `share` (0 to 1) of all stay below or at; None before the first."""
        with self._lock:
            ordered = sorted(self._ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

    def per_second(self) -> float:
        """Durations noted a second since the start."""
        return self.count / max(time.monotonic() - self._started, 1e-9)

    def plain(self) -> dict[str, float | int | None]:
        """Count, median and 95th percentile, for JSON."""
        p50, p95 = self.percentile(0.5), self.percentile(0.95)
        return {
            "count": self.count,
            "p50_ms": None if p50 is None else round(p50, 2),
            "p95_ms": None if p95 is None else round(p95, 2),
        }
