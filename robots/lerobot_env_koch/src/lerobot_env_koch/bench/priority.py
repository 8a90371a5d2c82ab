# SPDX-License-Identifier: Apache-2.0
"""Priority of the bench's threads.

The buses must answer in time, and each thread that runs Python holds the interpreter they need: one that the
host sets aside while it has it delays them. So all of them ask to be preferred.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def this_thread_preferred() -> Iterator[None]:
    """Let the calling thread run before other work for a while; threads it starts meanwhile inherit that."""
    thread = threading.get_native_id()
    try:
        policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
        niceness = os.getpriority(os.PRIO_PROCESS, thread)
    except (OSError, AttributeError):  # a host without any of it
        yield
        return
    prefer_this_thread()
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
        os.setpriority(os.PRIO_PROCESS, thread, niceness)


def prefer_this_thread() -> None:
    """Let the calling thread run before other work, where the host allows it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    except (OSError, AttributeError):
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        except (OSError, AttributeError):
            return
