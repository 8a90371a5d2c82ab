# SPDX-License-Identifier: Apache-2.0
"""What the bench's command does to the priority of the thread that runs it."""

import os
import threading

import pytest
from lerobot_env_koch.bench.priority import this_thread_preferred

from lerobot_ext.cli.main import main


def standing():
    return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no such priorities")
def test_a_thread_is_preferred_for_a_while_and_then_as_before():
    before = standing()
    with pytest.raises(KeyError), this_thread_preferred():
        raise KeyError
    assert standing() == before


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no such priorities")
def test_the_command_leaves_its_process_as_it_was(tmp_path, capsys):
    before = standing()
    assert main(["sim", "--cameras=none", "--duration=0.2", f"--run-dir={tmp_path}", "--base-port=0"]) == 0
    assert standing() == before
