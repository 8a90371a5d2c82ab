# SPDX-License-Identifier: Apache-2.0
"""Ends a run in order when it is killed or its terminal is closed, as Ctrl-C does."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


_started_whole = 0
_noted: list[int] = []


class Killed(KeyboardInterrupt):
    """A signal to end came; `exit_code` is what a shell calls that."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def killed_in_order() -> Iterator[None]:
    """Raise `Killed` at the first SIGTERM or SIGHUP while the block runs; further ones do not stop the end.

    A signal that is ignored, SIGHUP under `nohup`, stays so.
    """
    taken = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, frame: FrameType | None) -> None:
        for one in taken:
            signal.signal(one, signal.SIG_IGN)
        if _started_whole:
            _noted.append(number)
            return
        raise Killed(number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        _noted.clear()
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def started_whole() -> Iterator[None]:
    """Put `Killed` off while a process is started: it may be lost in the fork, or the process not known yet.

    It is raised when the block is left, so that has to be where the process is ended.
    """
    global _started_whole
    _started_whole += 1
    try:
        yield
    finally:
        _started_whole -= 1
    if _noted and not _started_whole:
        raise Killed(_noted.pop())
