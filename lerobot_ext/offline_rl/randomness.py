# SPDX-License-Identifier: Apache-2.0
"""The randomness of a training step: equal in a resumed run and in the one that was never interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StepRandomness:
    """A stream of its own for each training step, and for each rank: LeRobot seeds all ranks alike.

    The global stream of a resumed process stands elsewhere than the uninterrupted one's, as data loaders and
    evaluations draw from it too. Call `advance()` in the policy's `update()`.
    """

    def __init__(self) -> None:
        self._calls = 0

    def advance(self) -> None:
        """The next step begins: its calls are counted anew."""
        self._calls = 0

    @contextmanager
    def of_step(self, step: int, device: torch.device) -> Iterator[None]:
        """Seed torch for the next call of `step`; calls within a step (accumulation) differ.

        Args:
            step (`int`): Optimizer steps done, from a buffer that is saved.
            device (`torch.device`): Where the noise is drawn; a GPU's stream is put back too.
        """
        seed = hash((torch.initial_seed(), step, self._calls, *_rank())) % 2**63
        self._calls += 1
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield


def _rank() -> tuple[int, ...]:
    """Number of this process among several, nothing for the first and for one alone."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return ()
    rank = distributed.get_rank()
    return (rank,) if rank else ()
