# SPDX-License-Identifier: Apache-2.0
"""The client's queue of numbered actions: none is ever executed twice, whatever the network does.

Action `n` is what the policy wants at step `n`. A chunk that arrives late begins with steps that are over:
those are dropped. Where a chunk overlaps what is queued, the two are blended, as LeRobot's own client does.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Action = npt.NDArray[np.float32]
Blend = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Merged:
    """What became of a chunk.

    Args:
        late (`int`): Actions whose step was over.
        blended (`int`): Actions that met one in the queue.
        added (`int`): Actions for steps that had none.
    """

    late: int
    blended: int
    added: int


class TimestepQueue:
    """Actions by step, oldest first; safe between the control loop and the network thread.

    Args:
        blend (`Callable`): Queued action and new one, both (A,), to the one that is kept.
    """

    def __init__(self, blend: Blend) -> None:
        self._blend = blend
        self._actions: dict[int, Action] = {}
        self._last = -1
        self._newest_chunk = -1
        self._chunk_size = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._actions)

    @property
    def next_step(self) -> int:
        """Number of the next action; it has not been executed."""
        with self._lock:
            return self._last + 1

    @property
    def chunk_size(self) -> int:
        """Length of the longest chunk so far."""
        with self._lock:
            return self._chunk_size

    def fill(self) -> float:
        """Share of a chunk that is still queued; 0 before the first one."""
        with self._lock:
            return len(self._actions) / self._chunk_size if self._chunk_size else 0.0

    def merge(self, first: int, actions: npt.NDArray[np.float32]) -> Merged:
        """Take a chunk in.

        Args:
            first (`int`): Step of its first action.
            actions (`ndarray`): (T, A).

        Returns:
            What became of its actions. A chunk older than the newest one merged is dropped whole.
        """
        with self._lock:
            if first < self._newest_chunk:
                return Merged(len(actions), 0, 0)
            self._newest_chunk = first
            self._chunk_size = max(self._chunk_size, len(actions))
            late = blended = added = 0
            for step, action in enumerate(actions, start=first):
                if step <= self._last:
                    late += 1
                elif (queued := self._actions.get(step)) is not None:
                    self._actions[step] = np.asarray(self._blend(queued, action), dtype=np.float32)
                    blended += 1
                else:
                    self._actions[step] = np.array(action, dtype=np.float32)
                    added += 1
            return Merged(late, blended, added)

    def pop(self) -> tuple[int, Action] | None:
        """The next action and its number, which is then over; None when there is none to execute.

        A gap (a chunk that begins later than the queue ends) is stepped over: numbers rise, they need not be
        consecutive.
        """
        with self._lock:
            if not self._actions:
                return None
            step = min(self._actions)
            action = self._actions.pop(step)
            self._last = step
            return step, action
