# SPDX-License-Identifier: Apache-2.0
"""Runs the stock trainer for a few steps with a stopwatch, then for as many under torch's profiler.

The loop is LeRobot's own, so that any policy, dataset and option works. The stopwatch comes first and alone:
the profiler slows small operations down. Under CUDA the stopwatch waits for the device at each border, which
costs what a training gains by letting the CPU run ahead; the sum is thus an upper bound.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from lerobot_ext.patches import replaced
from lerobot_ext.training.profile import spans
from lerobot_ext.training.profile.spans import Stopwatch
from lerobot_ext.training.quiet import quiet_training

WARMUP = 2


@dataclass(frozen=True)
class Operation:
    """One kind of operation in the profiled steps.

    Args:
        name (`str`): torch's name of it.
        calls (`int`): In all profiled steps.
        cpu_s (`float`), device_s (`float`): Seconds in itself, without what it calls, in all profiled steps.
        memory_bytes (`int`): Bytes that it allocated and did not free itself, CPU and device.
    """

    name: str
    calls: int
    cpu_s: float
    device_s: float
    memory_bytes: int


@dataclass
class Profile:
    """What was measured.

    Args:
        device (`str`): Where the policy ran.
        steps (`list[dict[str, float]]`): Seconds of each phase, for each step without the profiler.
        operations (`list[Operation]`): The profiled ones, longest first.
        parameters (`int`): Of the policy.
        batch_size (`int`): Samples to a step.
        rss_bytes (`int`): Memory of the process at the end, its data workers' not included.
        device_bytes (`int`): Most that was allocated on the device; 0 on a CPU.
        trace (`Path`, *optional*): The Chrome trace.
    """

    device: str = ""
    steps: list[dict[str, float]] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    parameters: int = 0
    batch_size: int = 0
    rss_bytes: int = 0
    device_bytes: int = 0
    trace: Path | None = None

    def phases(self) -> dict[str, float]:
        """Median seconds of each phase, and of the step."""
        whole = [spans.whole(step) for step in self.steps]
        return {name: median(step[name] for step in whole) for name in (*spans.PHASES, spans.STEP)}


def run(words: list[str], steps: int, trace: Path) -> Profile:
    """Profile a training.

    Args:
        words (`list[str]`): Options of `lerobot-train`.
        steps (`int`): How many to time, and how many to profile after those.
        trace (`Path`): Where the Chrome trace goes.

    Raises:
        SystemExit: LeRobot's parser refused the options, and has said why.
        Exception: Whatever LeRobot raises.
    """
    from lerobot.scripts import lerobot_train

    session = _Session(steps, trace)
    with session.inside(lerobot_train):
        quiet_training([*words, f"--steps={WARMUP + 2 * steps}"])
    return session.profile


class _Session:
    """The hooks of one profile."""

    def __init__(self, steps: int, trace: Path) -> None:
        self.watch = Stopwatch()
        self.profile = Profile(trace=trace)
        self._steps = steps
        self._stock: dict[str, Any] = {}
        self._profiler: Any = None
        self._patched = False

    @contextlib.contextmanager
    def inside(self, script: ModuleType) -> Iterator[None]:
        """Put the hooks into the training script, for a while."""
        with replaced(script, cycle=self._cycle, update_policy=self._update_policy) as self._stock:
            yield

    def _cycle(self, loader: Any) -> Iterator[Any]:
        """Stock's endless loader; a step begins where it is asked for a batch."""
        batches = self._stock["cycle"](loader)
        while True:
            self.watch.next_step()
            if len(self.watch.steps) == WARMUP + self._steps + 1:
                self._start_profiler()
            self.watch.start(spans.DATA)
            batch = next(batches)
            self.watch.stop(spans.DATA)
            # What comes until the update are the pictures' conversion to float and the preprocessor.
            self.watch.start(spans.PREPROCESS)
            yield batch

    def _update_policy(
        self, tracker: Any, policy: Any, batch: Any, optimizer: Any, *words: Any, **named: Any
    ) -> Any:
        """Stock's, with the parts that it calls timed."""
        accelerator = named["accelerator"]
        if not self._patched:
            self._patched = True
            self._look_at(policy, optimizer, accelerator, tracker)
        self.watch.stop(spans.PREPROCESS)
        self.watch.start(spans.UPDATE)
        result = self._stock["update_policy"](tracker, policy, batch, optimizer, *words, **named)
        self.watch.stop(spans.UPDATE)
        if len(self.watch.steps) == WARMUP + 2 * self._steps:
            self._finish()
        return result

    def _look_at(self, policy: Any, optimizer: Any, accelerator: Any, tracker: Any) -> None:
        """Time the parts of this training, by names of its own objects."""
        device = accelerator.device
        self.profile.device = str(device)
        self.profile.parameters = sum(parameter.numel() for parameter in policy.parameters())
        self.profile.batch_size = tracker._batch_size
        if device.type == "cuda":
            self.watch.sync = torch.cuda.synchronize
        policy.forward = self.watch.timed(spans.FORWARD, policy.forward)
        accelerator.backward = self.watch.timed(spans.BACKWARD, accelerator.backward)
        accelerator.clip_grad_norm_ = self.watch.timed(spans.CLIP, accelerator.clip_grad_norm_)
        optimizer.step = self.watch.timed(spans.OPTIMIZER, optimizer.step)
        optimizer.zero_grad = self.watch.timed(spans.OPTIMIZER, optimizer.zero_grad)

    def _start_profiler(self) -> None:
        self._rss()
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profiler = torch.profiler.profile(activities=activities, profile_memory=True)
        self._profiler.__enter__()

    def _finish(self) -> None:
        self._profiler.__exit__(None, None, None)
        self.profile.steps = self.watch.steps[WARMUP : WARMUP + self._steps]
        self.profile.operations = _operations(self._profiler)
        assert self.profile.trace is not None
        self.profile.trace.parent.mkdir(parents=True, exist_ok=True)
        self._profiler.export_chrome_trace(str(self.profile.trace))

    def _rss(self) -> None:
        """Note the memory before the profiler takes its own."""
        import psutil  # type: ignore[import-untyped, unused-ignore]

        self.profile.rss_bytes = psutil.Process().memory_info().rss
        if torch.cuda.is_available():
            # The loop resets the peak at each step: this is the last one's.
            self.profile.device_bytes = torch.cuda.max_memory_allocated()


def _operations(profiler: Any) -> list[Operation]:
    """What the profiler saw, our own spans left out, longest first."""
    found = [
        Operation(
            name=entry.key,
            calls=entry.count,
            cpu_s=entry.self_cpu_time_total / 1e6,
            device_s=entry.self_device_time_total / 1e6,
            memory_bytes=entry.self_cpu_memory_usage + entry.self_device_memory_usage,
        )
        for entry in profiler.key_averages()
        if not spans.is_span(entry.key)
    ]
    return sorted(found, key=lambda operation: operation.cpu_s + operation.device_s, reverse=True)
