# SPDX-License-Identifier: Apache-2.0
"""What ran the benchmark, and how long it kept a process waiting for a processor."""

import contextlib
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

BENCH_PRIORITY: Final = 20
CLIENT_PRIORITY: Final = 18
"""Real-time priorities: above other benches of this machine; a bench must never wait for its client."""

ON_A_BUS: Final = ("lerobot", "lerobot_robot_koch", "lerobot_env_koch", "dynamixel-sdk", "pyserial", "numpy")
CLIENT_NICE: Final = -8
HOST_STALL_MS: Final = 10.0
"""A frame whose client waited this long for a processor is the machine's doing; the bench's threshold too."""


class CpuWait:
    """How long the calling thread has been ready to run but was not run, by Linux's scheduler statistics."""

    def __init__(self) -> None:
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            self._file = -1  # not Linux: nothing is told apart

    def milliseconds(self) -> float:
        """Since the thread began."""
        if self._file < 0:
            return 0.0
        return int(os.pread(self._file, 64, 0).split()[1]) / 1e6

    def close(self) -> None:
        """Let go of the statistics."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def prefer_bench(pid: int) -> None:
    """Raise all threads of a bench, which have given themselves a lower real-time priority, if allowed."""
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(BENCH_PRIORITY))


def prefer_this_process(real_time: bool) -> str:
    """Let this process run before ordinary ones: a busy host is not what is measured.

    Args:
        real_time (`bool`): At a real-time priority. Only for a driver that sleeps while it waits:
            dynamixel-sdk spins, and would keep the kernel's worker from handing it the bytes of the
            pseudo-terminal.

    Returns:
        `str`: `real-time`, `nice` or `ordinary`, as far as the host allows it.
    """
    if real_time:
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(CLIENT_PRIORITY))
            return "real-time"
    try:
        os.setpriority(os.PRIO_PROCESS, 0, CLIENT_NICE)
    except (OSError, AttributeError):
        return "ordinary"
    return "nice"


def describe(names: Sequence[str] = ON_A_BUS) -> dict[str, Any]:
    """Machine, versions and conditions of a run, for the record.

    Args:
        names (`Sequence[str]`): Distributions whose versions count.
    """
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
        "commit": _commit(),
        "load": os.getloadavg(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
