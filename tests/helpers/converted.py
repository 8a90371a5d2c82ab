# SPDX-License-Identifier: Apache-2.0
"""Conversions in a test's own process, and in forked ones that are killed."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import torch
from progress_locks import own_progress_lock

from lerobot_ext.importing.convert import Options, Progress, Report, convert
from lerobot_ext.importing.survey import Survey, survey

os.environ.setdefault("SVT_LOG", "1")
av.logging.set_libav_level(av.logging.ERROR)
QUIET = Progress(lambda stage, total, done: None, lambda count: None)


def options(root: Path, **changes: Any) -> Options:
    """H.264 and short segments: quick, and many of them."""
    chosen: dict[str, Any] = {"vcodec": "h264", "segment_frames": 40, "workers": 1} | changes
    return Options("me/log", root, 30, "lift", **chosen)


def run(source: Path, root: Path, **changes: Any) -> tuple[Survey, Report]:
    """Survey and convert; both results."""
    found = survey([source])
    return found, convert(found, options(root, **changes), QUIET)


def in_a_fork(work: Callable[[], None], kill_after_s: float | None = None) -> int:
    """Run in a forked process, killed after a time if it still runs; its exit code."""

    def alone() -> None:
        torch.set_num_threads(1)  # the threads of torch that the parent started are not in a fork
        own_progress_lock()
        work()

    process = multiprocessing.get_context("fork").Process(target=alone, daemon=True)
    process.start()
    process.join(kill_after_s)
    if process.is_alive():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def killed_at(source: Path, root: Path, stage: str, step: int) -> bool:
    """Convert in a forked process that kills itself at a step of a stage (0: its start); whether it did."""

    def work() -> None:
        current, count = "", 0

        def begin(name: str, total: int, done: int) -> None:
            nonlocal current, count
            current, count = name, 0
            advance(0)

        def advance(more: int) -> None:
            nonlocal count
            count += more
            if current == stage and count >= step:
                os.kill(os.getpid(), signal.SIGKILL)

        convert(survey([source]), options(root), Progress(begin, advance))

    return in_a_fork(work) == -signal.SIGKILL
