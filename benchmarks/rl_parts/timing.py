# SPDX-License-Identifier: Apache-2.0
"""CPU time of several sides in turns in one process, and their ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Times = dict[str, list[float]]


def in_turns(sides: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """CPU milliseconds of each side in each round, after one round that does not count.

    The sides of a round run one right after the other, so that what disturbs the machine disturbs all of
    them; CPU time is disturbed less than wall time by what else runs.
    """
    for work in sides.values():
        work()
    times: Times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            started = time.process_time_ns()
            work()
            times[name].append((time.process_time_ns() - started) / 1e6)
    return times


def median_ratio(times: Times, side: str, against: str) -> float:
    """The median over rounds of how many times the other's time a side took."""
    return statistics.median(one / other for one, other in zip(times[side], times[against], strict=True))
