# SPDX-License-Identifier: Apache-2.0
"""While one of our devices is connected, SIGTERM and SIGHUP end a program in order, as Ctrl-C does.

By default they end a process at once: the dataset stays without footers, the arm under torque. Here the first
one raises `KeyboardInterrupt` in the main thread, so that the `finally` of record, teleoperate, replay and
calibrate finishes the dataset and releases the arm. What they wait for:

- while LeRobot saves an episode the interrupt is put off until it is saved, so that it is whole or not there;
- while it finishes the dataset or a device disconnects, the end is under way already: the signal is noted;
- a second signal during the clean-up is noted. The third ends the process at once.

A forked child (LeRobot encodes videos in such) inherits the handlers. It outlives a signal only if the parent
got it too and waits for the child's work; a signal to the child alone, by which a pool clears up behind a
worker that crashed, ends it, else the pool would wait for ever.

Only signals that have their default action are taken: `nohup` (SIGHUP ignored) and programs with handlers of
their own, such as `lerobot-rollout`, keep theirs. When the program ends after a signal, even if it caught the
interrupt and returned 0, its exit status is that of the signal: 143 after SIGTERM, 129 after SIGHUP.
"""

import atexit
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

# SIGBREAK: how Windows tells a console program that its window is closed.
SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
SAME_WISH_S: Final = 1.0
"""Signals closer together are one wish: a closing session sends SIGTERM and SIGHUP at once."""

CHILD_WAITS_S: Final = 0.5
"""How long a child waits to see whether the parent got its signal too, which takes a few milliseconds."""


class Endings:
    """Takes the signals for as long as any device holds it; one for the process, `ENDINGS`."""

    def __init__(self) -> None:
        self._holders: set[int] = set()
        self._taken: list[signal.Signals] = []
        self._n_wishes = 0
        self._last_wish_s = 0.0
        self._first: signal.Signals | None = None
        # How many saves (put the interrupt off) and ends (swallow it) are under way in the main thread
        self._saving = 0
        self._ending = 0
        self._put_off = False
        self._seen_in_child: set[signal.Signals] = set()
        self._pid = os.getpid()
        # Shared with forked children: 1 while a save or an end goes on in spite of a signal
        self._goes_on = mmap.mmap(-1, 1)

    def hold(self, device: object) -> bool:
        """Take the signals, from the main thread; elsewhere Python does not allow it and nothing happens.

        Returns:
            Whether `device` did not hold them before.
        """
        if id(device) in self._holders:
            return False
        if not _in_main_thread():
            return True
        if not self._holders:
            self._n_wishes, self._first, self._put_off = 0, None, False
            self._pid = os.getpid()
            self._goes_on = mmap.mmap(-1, 1)
            atexit.unregister(self._exit_as_signalled)
            for number in SIGNALS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, self._handle)
                    self._taken.append(number)
        self._holders.add(id(device))
        return True

    def release(self, device: object) -> None:
        """Give the signals back when no device is left; not those that somebody else has taken since."""
        self._holders.discard(id(device))
        if self._holders or not _in_main_thread():
            return
        for number in self._taken:
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL)
        self._taken.clear()

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Something that ends the program's work runs: signals are noted and do not break it."""
        self.start_ending()
        try:
            yield
        finally:
            self.stop_ending()

    def start_ending(self) -> None:
        """See `ending`."""
        self._ending += _in_main_thread()

    def stop_ending(self) -> None:
        """See `ending`."""
        self._ending -= _in_main_thread()
        self._rest()

    def start_saving(self) -> None:
        """An episode is being saved: the interrupt is put off."""
        self._saving += _in_main_thread()

    def stop_saving(self) -> None:
        """It is saved, or could not be.

        Raises:
            KeyboardInterrupt: A signal came meanwhile.
        """
        self._saving -= _in_main_thread()
        self._rest()
        if self._put_off and not self._saving and not self._ending and _in_main_thread():
            self._put_off = False
            raise KeyboardInterrupt

    def _rest(self) -> None:
        """Nothing goes on any more that children of this process should finish."""
        if not self._saving and not self._ending:
            self._goes_on[0] = 0

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._pid:
            self._handle_in_child(signal.Signals(number))
            return
        if not self._holders:  # the last device was disconnected in a thread, which cannot give signals back
            _die_of(signal.Signals(number))
        if self._saving or self._ending:
            self._goes_on[0] = 1
        now = time.monotonic()
        name = signal.Signals(number).name
        if self._n_wishes and now - self._last_wish_s < SAME_WISH_S:
            return
        self._last_wish_s = now
        self._n_wishes += 1
        if self._n_wishes == 1:
            self._first = signal.Signals(number)
            atexit.register(self._exit_as_signalled)
            if self._ending:
                _say(f"{name}: noted, the end is under way.")
            elif self._saving:
                _say(f"{name}: ending as with Ctrl-C, once the episode is saved.")
                self._put_off = True
            else:
                _say(f"{name}: ending as with Ctrl-C.")
                raise KeyboardInterrupt
        elif self._n_wishes == 2:
            _say(f"{name}: the end is under way; once more ends it at once, without finishing.")
        else:
            _say(f"{name}: ended at once. The arm may hold its pose; `lerobot-ext repair` mends the dataset.")
            _die_of(signal.Signals(number))

    def _handle_in_child(self, number: signal.Signals) -> None:
        """Go on if the parent got the signal as well, and works on; end otherwise, and at a repetition."""
        until_s = time.monotonic() + CHILD_WAITS_S
        while not self._goes_on[0] and time.monotonic() < until_s:
            time.sleep(0.01)
        if not self._goes_on[0] or number in self._seen_in_child:
            _die_of(number)
        self._seen_in_child.add(number)

    def _exit_as_signalled(self) -> None:
        """At exit: end with the status that the first signal would have given."""
        if self._first is None:
            return
        atexit.unregister(self._exit_as_signalled)
        # What was registered earlier would run after this function, which does not return.
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, or its reader has gone
                stream.flush()
        _die_of(self._first)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _say(text: str) -> None:
    """Write a line from within a signal handler: logging and print may be in the middle of one."""
    with suppress(OSError):  # the terminal has gone, which is what SIGHUP says
        os.write(2, f"\nlerobot_robot_koch: {text}\n".encode())


def _die_of(number: signal.Signals) -> None:
    """End this process by `number`'s default action."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


ENDINGS: Final = Endings()
