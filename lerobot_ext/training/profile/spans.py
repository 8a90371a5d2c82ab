# SPDX-License-Identifier: Apache-2.0
"""A stopwatch for the phases of a training step, and their names in a trace."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch

DATA, PREPROCESS, UPDATE = "wait for data", "preprocessor", "update"
FORWARD, BACKWARD, CLIP, OPTIMIZER = "forward", "backward", "clip gradients", "optimizer"
OTHER, STEP = "other", "step"
PHASES = (DATA, PREPROCESS, FORWARD, BACKWARD, CLIP, OPTIMIZER, OTHER)
_PREFIX = "lerobot_ext: "


@dataclass
class Stopwatch:
    """Seconds of each phase, step by step.

    Args:
        sync (`Callable`, *optional*): Waits until the device has done what it was given.
        clock (`Callable`, *optional*): Seconds, rising.
    """

    sync: Callable[[], object] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    steps: list[dict[str, float]] = field(default_factory=list)
    _open: dict[str, tuple[float, Any]] = field(default_factory=dict)

    def next_step(self) -> None:
        """What comes belongs to another step."""
        self.steps.append({})

    def start(self, phase: str) -> None:
        """Begin a phase; phases may lie in one another."""
        self.sync()
        mark = torch.profiler.record_function(_PREFIX + phase)
        mark.__enter__()  # type: ignore[no-untyped-call, unused-ignore]
        self._open[phase] = (self.clock(), mark)

    def stop(self, phase: str) -> None:
        """End a phase; one that occurs twice in a step is added up."""
        self.sync()
        began, mark = self._open.pop(phase)
        now = self.clock()
        mark.__exit__(None, None, None)
        if self.steps:
            self.steps[-1][phase] = self.steps[-1].get(phase, 0.0) + now - began

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, with its calls taken as `phase`."""

        @wraps(function)
        def timing(*words: Any, **named: Any) -> Any:
            self.start(phase)
            try:
                return function(*words, **named)
            finally:
                self.stop(phase)

        return timing


def whole(step: dict[str, float]) -> dict[str, float]:
    """A step with what its phases leave: `other` of the update, and the sum."""
    inside = sum(step.get(phase, 0.0) for phase in (FORWARD, BACKWARD, CLIP, OPTIMIZER))
    phases = {phase: step.get(phase, 0.0) for phase in PHASES}
    phases[OTHER] = max(0.0, step.get(UPDATE, 0.0) - inside)
    return phases | {STEP: sum(phases.values())}


def is_span(name: str) -> bool:
    """Whether an entry of a profile is one of ours, which hold others."""
    return name.startswith(_PREFIX)
