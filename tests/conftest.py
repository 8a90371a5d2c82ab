# SPDX-License-Identifier: Apache-2.0
"""What all tests share: how they are spread over worker processes."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import workers

# Before torch and NumPy are imported: two workers with a thread a core each wait for each other's threads.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure() -> None:
    """Keep forked processes from standing still; let signals end child processes also where they are ignored.

    LeRobot forks to encode videos, and among what a test has let go of are decoders with threads. `nohup`
    ignores SIGHUP and a shell's `&` ignores SIGINT; children inherit that.
    """
    from lerobot_ext.recording.forks import leave_what_is_inherited

    leave_what_is_inherited()
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Give back what a test leaves of this process's priority.

    SVT-AV1, which some tests encode with, takes real-time priority for good when it runs as root. All later
    tests and what they start would run so, and two workers that compute so starve each other.
    """
    standing = _standing()
    try:
        return (yield)
    finally:
        if standing is not None and _standing() != standing:
            os.sched_setscheduler(0, *standing)


def _standing() -> tuple[int, Any] | None:
    if not hasattr(os, "sched_getscheduler"):
        return None
    return os.sched_getscheduler(0), os.sched_getparam(0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep all tests that run a virtual bench in one worker, and those of a file."""
    return workers.scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    groups = workers.longest_first(
        [(item.nodeid, item.get_closest_marker("slow") is not None) for item in items]
    )
    places = {group: place for place, group in enumerate(groups)}
    for item in items:
        if workers.group_of(item.nodeid) == "bench":
            # These talk in real time; a host that takes the cores away for a moment is no fault of ours. What
            # fails three times in a row fails, and each repetition is listed at the end of the run.
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=1))
    items.sort(key=lambda item: places[workers.group_of(item.nodeid)])
