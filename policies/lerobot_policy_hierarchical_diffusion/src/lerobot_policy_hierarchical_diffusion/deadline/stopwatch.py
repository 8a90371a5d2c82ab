# SPDX-License-Identifier: Apache-2.0
"""Times the parts of a plan on the machine that runs it."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Laps in ms since it was made.

    Args:
        device (`torch.device`): Where the work runs.
        exact (`bool`): Whether to wait, at each lap, for an accelerator to finish. Without it a lap on a GPU
            is the time it took to queue the work; with it, the GPU idles for some µs at each lap.
        started (`float`, *optional*): `time.perf_counter()` when the work began; now, by default.
    """

    def __init__(self, device: torch.device, *, exact: bool, started: float | None = None) -> None:
        self._waits = exact and device.type == "cuda"
        self._device = device
        self.ms: dict[str, float] = {}
        self._started = self._last = self._now() if started is None else started

    def lap(self, name: str) -> None:
        """Note what has passed since the lap before under `name`."""
        now = self._now()
        self.ms[name] = 1e3 * (now - self._last)
        self._last = now

    def elapsed_ms(self) -> float:
        """What has passed up to the last lap."""
        return 1e3 * (self._last - self._started)

    def _now(self) -> float:
        if self._waits:
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
