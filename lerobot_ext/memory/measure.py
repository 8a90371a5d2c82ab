# SPDX-License-Identifier: Apache-2.0
"""Trains two steps for real and measures: on the CPU by the allocator's own events, on a GPU by its peaks.

Also counts what autograd saves, by its hooks: another way to the activations than that of the estimate.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lerobot_ext.cli.command import CommandError
from lerobot_ext.memory.step import FORWARD, Usage, run_step
from lerobot_ext.memory.subject import Subject


@dataclass
class Measured:
    """What a step took.

    Args:
        device (`str`): Where.
        batch_size (`int`): Samples of the step.
        peaks (`dict[str, int]`): The most that was allocated in each phase, everything that stands included.
        saved (`int`): Bytes that autograd saved for the backward pass, weights and batch aside.
        usage (`Usage`): What lived, counted as the estimate counts.
    """

    device: str
    batch_size: int
    peaks: dict[str, int] = field(default_factory=dict)
    saved: int = 0
    usage: Usage = field(default_factory=lambda: Usage(0))

    @property
    def peak(self) -> int:
        """The most that was allocated at any time of the step."""
        return max(self.peaks.values())


def device_of_measurement() -> str:
    """`cuda` where torch can use one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def measure(subject: Subject, size: int, optimizer: Any, device: str, *, amp: bool = False) -> Measured:
    """Train a policy of random weights for two steps.

    Args:
        subject (`Subject`): The policy.
        size (`int`): Batch size.
        optimizer: LeRobot's `OptimizerConfig`.
        device (`str`): `cpu` or `cuda`.
        amp (`bool`, *optional*): The forward pass under 16-bit autocast.

    Raises:
        CommandError: It does not fit, or cannot be made.
    """
    found = Measured(device, size)
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    try:
        policy = subject.changed({"device": device}).build()
        batch = {
            key: value.to(device) if isinstance(value, Tensor) else value
            for key, value in subject.batch(size).items()
        }
        watch = _Cuda(found, before) if device == "cuda" else _Cpu(found)
        own = {tensor.untyped_storage().data_ptr() for tensor in (*policy.parameters(), *policy.buffers())}
        own |= {value.untyped_storage().data_ptr() for value in batch.values() if isinstance(value, Tensor)}
        watch.own = own
        found.usage = run_step(policy, batch, size, optimizer, amp=amp, watch=watch)
    except torch.OutOfMemoryError as error:
        raise CommandError(
            f"a batch of {size} does not fit on {device}: {str(error).splitlines()[0][:200]}",
            "lower --batch_size, or leave out --measure",
        ) from error
    if device == "cpu":
        standing = found.usage.standing + found.usage.batch
        found.peaks = {phase: peak + standing for phase, peak in found.peaks.items()}
    return found


@dataclass(eq=False)
class _Saved:
    """A tensor that autograd keeps for the backward pass; it goes when autograd lets it go."""

    tensor: Tensor


class _Watch:
    """A context for each phase."""

    def __init__(self, found: Measured) -> None:
        self.found = found
        self.own: set[int] = set()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        held: weakref.WeakSet[_Saved] = weakref.WeakSet()

        def pack(tensor: Tensor) -> _Saved:
            entry = _Saved(tensor.detach())  # itself, it may hold the node that holds it, beyond its time
            held.add(entry)
            return entry

        with self.peak(phase):
            if phase != FORWARD:
                yield
                return
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda entry: entry.tensor):
                yield
        # What a branch saved that does not lead to the loss is gone by now.
        storages = [entry.tensor.untyped_storage() for entry in held]
        sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
        self.found.saved = sum(size for place, size in sizes.items() if place not in self.own)

    @contextmanager
    def peak(self, phase: str) -> Iterator[None]:
        """Note the peak of a phase."""
        raise NotImplementedError
        yield


class _Cuda(_Watch):
    def __init__(self, found: Measured, before: int) -> None:
        super().__init__(found)
        self._before = before

    @contextmanager
    def peak(self, phase: str) -> Iterator[None]:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        yield
        torch.cuda.synchronize()
        self.found.peaks[phase] = torch.cuda.max_memory_allocated() - self._before


class _Cpu(_Watch):
    """The profiler tells each allocation and each release, from which the peak follows."""

    def __init__(self, found: Measured) -> None:
        super().__init__(found)
        self._level = 0  # what lives at the beginning of a phase beyond what stood before the step

    @contextmanager
    def peak(self, phase: str) -> Iterator[None]:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
            yield
        kineto: Any = profiler.profiler
        events = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
        highest = self._level
        for event in sorted(events, key=lambda event: event.start_ns()):
            self._level += event.nbytes()
            highest = max(highest, self._level)
        self.found.peaks[phase] = highest
