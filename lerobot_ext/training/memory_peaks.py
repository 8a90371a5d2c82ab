# SPDX-License-Identifier: Apache-2.0
"""The most memory in each phase of a training step: `memory/forward_gb` and its kin among the metrics.

Measured at log steps only, so that the others cost nothing. On a GPU it is what torch has allocated there; on
the CPU of a Linux machine what the process holds, data and libraries included; elsewhere there is nothing to
ask. With several ranks the trainer takes the largest. The figures are in GiB, as stock's `gpu_mem_gb`.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

import torch
from lerobot.utils.logging_utils import AverageMeter

from lerobot_ext.patches import Patch
from lerobot_ext.training import loop

FORWARD, BACKWARD, OPTIMIZER, UPDATE = "forward", "backward", "optimizer", "update"
COLUMN: Final = "memory/{}_gb"
_GPU_METER: Final = "gpu_mem_gb"
_GIB: Final = 2**30
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"
"""What the kernel takes in `clear_refs` to start a process's peak anew."""

logger = logging.getLogger(__name__)


class Probe(Protocol):
    """Something whose peak can be started anew."""

    def restart(self) -> None:
        """Let the peak be what is held now."""

    def peak(self) -> int:
        """The most bytes since then."""


class GpuProbe:
    """What torch has allocated on this rank's GPU."""

    def restart(self) -> None:
        """Let the peak be what is held now."""
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """The most bytes since then."""
        return int(torch.cuda.max_memory_allocated())


class ProcessProbe:
    """What this process holds, by Linux's own account."""

    def restart(self) -> None:
        """Let the peak be what is held now."""
        _CLEAR.write_text(_RESET_PEAK)

    def peak(self) -> int:
        """The most bytes since then."""
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10


def probe_of(device_type: str) -> Probe | None:
    """The probe for a training on a device, if there is one."""
    if device_type == "cuda":
        return GpuProbe()
    probe = ProcessProbe()
    try:
        probe.restart()
        probe.peak()
    except (OSError, StopIteration):
        return None
    return probe


class Peaks:
    """The peaks of one step's phases, one after another.

    Args:
        probe (`Probe`): What is asked.
    """

    def __init__(self, probe: Probe) -> None:
        self.found: dict[str, int] = {}
        self._probe = probe
        self._phase: str | None = None

    def begin(self, phase: str | None) -> None:
        """End the phase that runs, and begin another, or none."""
        if self._phase is not None:
            self.found[self._phase] = max(self.found.get(self._phase, 0), self._probe.peak())
        self._phase = phase
        if phase is not None:
            self._probe.restart()

    @contextmanager
    def watching(self, optimizer: Any, accelerator: Any) -> Iterator[None]:
        """Follow the step that is taken inside."""
        stepping = getattr(optimizer, "optimizer", optimizer)
        handles = [
            stepping.register_step_pre_hook(lambda *_: self.begin(OPTIMIZER)),
            stepping.register_step_post_hook(lambda *_: self.begin(UPDATE)),
        ]
        backward: Callable[..., Any] = accelerator.backward

        def starting(*words: Any, **named: Any) -> Any:
            self.begin(BACKWARD)
            return backward(*words, **named)

        accelerator.backward = starting
        self.begin(FORWARD)
        try:
            yield
        finally:
            self.begin(None)
            del accelerator.backward
            for handle in handles:
                handle.remove()


class PeakRecorder(loop.LoopObserver):
    """Knows which steps are logged, and puts their peaks among the trainer's metrics."""

    def __init__(self) -> None:
        self._log_freq = 0
        self._probes: dict[str, Probe | None] = {}

    def started(self, run: loop.TrainingRun) -> None:
        """Note how often the run logs."""
        self._log_freq = int(run.cfg.log_freq)

    def take_step(self, step: Callable[[], Any], tracker: Any, optimizer: Any, accelerator: Any) -> Any:
        """Take a step of the optimizer; measure it if it is one that is logged.

        Args:
            step (`Callable`): Stock's `update_policy` with its arguments.
            tracker: LeRobot's `MetricsTracker`, which has the number of steps done.
            optimizer: As the loop has it, prepared by the accelerator.
            accelerator: Of the `accelerate` library.
        """
        if self._log_freq <= 0 or (tracker.steps + 1) % self._log_freq:
            return step()
        probe = self._probe(accelerator.device.type)
        if probe is None:
            return step()
        peaks = Peaks(probe)
        with peaks.watching(optimizer, accelerator):
            result = step()
        note(tracker, peaks.found, device=accelerator.device.type)
        return result

    def _probe(self, device: str) -> Probe | None:
        if device not in self._probes:
            self._probes[device] = probe_of(device)
            if self._probes[device] is None:
                logger.info("lerobot_ext: no memory peaks by phase: only Linux and GPUs tell them.")
        return self._probes[device]


def note(tracker: Any, peaks: dict[str, int], device: str) -> None:
    """Put peaks into a tracker's metrics; mend stock's own peak, which ours have started anew.

    Args:
        tracker: LeRobot's `MetricsTracker`.
        peaks (`dict[str, int]`): Bytes by phase.
        device (`str`): Type of the device.
    """
    for phase, size in peaks.items():
        name = COLUMN.format(phase)
        if name not in tracker.metrics:
            tracker.metrics[name] = AverageMeter(f"mem_{phase}", ":.2f", reduction="max")
        tracker.metrics[name].reset()
        tracker.metrics[name].update(size / _GIB)
    stock = tracker.metrics.get(_GPU_METER)
    if device == "cuda" and stock is not None and stock.count:
        whole = max(peaks.values()) / _GIB
        stock.sum += whole - stock.val
        stock.val = whole
        stock.avg = stock.sum / stock.count


_recorder = PeakRecorder()
_patch = Patch("training step", lost="no memory peaks by phase")


def install(script: ModuleType) -> None:
    """Measure from now on.

    Args:
        script (`ModuleType`): `lerobot.scripts.lerobot_train`, under whatever name it runs.
    """
    loop.observe(_recorder, script)
    _patch.install({(script, "update_policy"): _update_policy})


def uninstall() -> None:
    """Give LeRobot its own step back."""
    _patch.uninstall()
    loop.forget(_recorder)


def _update_policy(
    tracker: Any,
    policy: Any,
    batch: Any,
    optimizer: Any,
    grad_clip_norm: float,
    accelerator: Any,
    **named: Any,
) -> Any:
    """Stock's, measured where it is to be logged."""
    stock = _patch.stock("update_policy")
    return _recorder.take_step(
        lambda: stock(tracker, policy, batch, optimizer, grad_clip_norm, accelerator=accelerator, **named),
        tracker,
        optimizer,
        accelerator,
    )
