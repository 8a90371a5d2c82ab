# SPDX-License-Identifier: Apache-2.0
"""Adds the time that is left to the lines that the trainer logs."""

import itertools
import time
from collections import deque
from collections.abc import Callable

from lerobot_ext.training.loop import LoopObserver, TrainingRun

# Log steps to look back: enough to spread an evaluation or a checkpoint, few enough to follow a busy machine.
WINDOW = 20


class TimeLeft(LoopObserver):
    """`eta:1h05m` at the end of each log line; the progress bar, which has one, is no part of a log file.

    Args:
        clock (`Callable`, *optional*): Seconds, rising.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[int, float]] = deque(maxlen=WINDOW)

    def started(self, run: TrainingRun) -> None:
        """Begin to count."""
        self._marks.clear()
        self._marks.append((run.first_step, self._clock()))

    def stepped(self, run: TrainingRun, step: int) -> None:
        """Leave the first step out of the mean: it waits for data workers to start."""
        if step == run.first_step + 1:
            self._marks.append((step, self._clock()))

    def describe(self, run: TrainingRun, step: int) -> str:
        """The time left, from the mean pace over the last log steps, evaluations and checkpoints included."""
        if self._marks[-1][0] < step:
            if len(self._marks) > 1 and self._marks[0][0] == run.first_step:
                self._marks.popleft()
            self._marks.append((step, self._clock()))
        (first, since), (last, now) = self._marks[0], self._marks[-1]
        if last == first:
            return ""
        return f"eta:{in_words(max(0, run.total_steps - step) * (now - since) / (last - first))}"


def in_words(seconds: float) -> str:
    """A duration by its two largest units: `12s`, `3m05s`, `1h05m`, `2d03h`."""
    whole = round(seconds)
    for (unit, size), (smaller, part) in itertools.pairwise((("d", 86400), ("h", 3600), ("m", 60), ("s", 1))):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{smaller}"
    return f"{whole}s"
