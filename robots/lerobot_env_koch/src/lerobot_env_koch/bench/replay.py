# SPDX-License-Identifier: Apache-2.0
"""Repeats the fates of a written trace instead of drawing new ones."""

from collections import deque

from lerobot_env_koch.bench.fate import Fate
from lerobot_env_koch.bench.fault_injector import FaultInjector
from lerobot_env_koch.bench.faults import FaultPlan
from lerobot_env_koch.bench.instructions import Answer
from lerobot_env_koch.bench.trace import Trace


class ReplayedFaults(FaultInjector):
    """Gives the n-th instruction and the n-th status packet the fate they had in a trace; later ones arrive.

    The packets' fates include what stalls did to them. Latency timer, hardware errors and a pulled cable are
    no fate of a packet: they come from the faults that the trace began with.

    Args:
        trace (`Trace`): What to repeat.
        arm (`str`): The arm whose bus this is.

    Raises:
        ValueError: The trace holds a malformed fate or fault.
    """

    def __init__(self, trace: Trace, arm: str) -> None:
        recorded = FaultPlan.parse(trace.header.get("faults", {}).get(arm, "").removeprefix("none"))
        plan = FaultPlan(
            latency_timer_ms=recorded.latency_timer_ms, alerts=recorded.alerts, unplug_s=recorded.unplug_s
        )
        super().__init__(plan, seed=0)
        self._instructions = deque(trace.fates(arm, "in"))
        self._replies = deque(trace.fates(arm, "out"))

    def set_plan(self, plan: FaultPlan) -> None:
        """Refused: a replay has its faults.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"the bench replays a trace; start it without `--replay` to set `{plan}`.")

    def instruction(self, now: float) -> Fate:
        """The recorded fate of the next instruction."""
        super().instruction(now)
        fate = self._instructions.popleft() if self._instructions else Fate()
        if fate.lost:
            self.counts.add(fate)
        self.counts.stalled += fate.late_ms > 0
        return fate

    def replies(self, answer: Answer, now: float) -> list[Fate]:
        """The recorded fates of the next status packets."""
        fates = [self._replies.popleft() if self._replies else Fate() for _ in answer.replies]
        for fate in fates:
            self.counts.add(fate)
        return fates
