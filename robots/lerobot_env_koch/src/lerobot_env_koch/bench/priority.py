# SPDX-License-Identifier: Apache-2.0
"""Priority of the bench's threads.

The buses must answer in time, and each thread that runs Python holds the interpreter they need: one that the
host sets aside while it has it delays them. So all of them ask to be preferred.
"""

import os
import threading


def prefer_this_thread() -> None:
    """Let the calling thread run before other work, where the host allows it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    except (OSError, AttributeError):
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        except (OSError, AttributeError):
            return
