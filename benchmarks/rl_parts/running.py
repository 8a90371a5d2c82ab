# SPDX-License-Identifier: Apache-2.0
"""Runs cells side by side; stops what it has started when it is stopped."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hierarchical_parts.commands import CommandError, Commands

NICE = 10


@contextmanager
def working_in(out: Path):  # type: ignore[no-untyped-def]
    """Console scripts whose output goes to `out/logs`; nobody else works in the folder at the same time.

    Raises:
        SystemExit: Somebody does.
    """
    from filelock import FileLock, Timeout

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends with it
    out.mkdir(parents=True, exist_ok=True)
    commands = Commands(out / "logs", NICE)
    try:
        with FileLock(out / "lock", timeout=0):
            yield commands
    except Timeout as error:
        raise SystemExit(f"another run works in --out {out}; wait for it, or name another.") from error


def side_by_side(work: Sequence[Callable[[], Any]], jobs: int, commands: Commands) -> list[str]:
    """Do it all, `jobs` at a time; gives what failed, with the reason. The rest is done all the same."""
    failures = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one) for one in work]
        try:
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, CommandError):
                    failures.append(str(error))
                elif error is not None:
                    raise error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            commands.stop()
            raise
    return failures
