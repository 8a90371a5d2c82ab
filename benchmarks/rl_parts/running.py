# SPDX-License-Identifier: Apache-2.0
"""The folder that a run works in, which nobody else may at the same time."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from hierarchical_parts.commands import Commands

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
