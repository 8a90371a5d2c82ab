# SPDX-License-Identifier: Apache-2.0
"""Plays the person in front of `lerobot-calibrate`: reads its prompts and presses ENTER in time."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import pexpect

from lerobot_ext.quickstart.runner import Runner, StepError
from lerobot_ext.quickstart.settings import executable
from lerobot_ext.quickstart.signals import started_whole

_KEEP_OR_REDO = r"or type 'c' and press ENTER"
_MIDDLE = r"middle of its range"
_SWEEP = r"Press ENTER to stop"


def run_calibration(
    runner: Runner,
    name: str,
    argv: Sequence[str],
    *,
    phase: Callable[[], str],
    prompt_timeout_s: float,
    hand_timeout_s: float,
    remedy: str,
) -> None:
    """Run one `lerobot-calibrate` to its end.

    Args:
        runner (`Runner`): Shows and logs the command.
        name (`str`): Names the log file.
        argv (`Sequence[str]`): The command.
        phase (`Callable[[], str]`): Where the bench's hand stands: `middle` while it holds the arm in
            mid-range, `swept` once every joint has been at both its stops.
        prompt_timeout_s (`float`): Longest wait for a prompt.
        hand_timeout_s (`float`): Longest wait for the hand.
        remedy (`str`): What to try when it fails.

    Raises:
        StepError: If a prompt does not come, the hand does not do its part, or the command fails.
    """
    command = runner.show(name, argv)
    log = runner.logs / f"{name}.log"

    def fail(reason: str) -> StepError:
        return StepError(command, reason, log, remedy)

    with log.open("wb") as sink, runner.console.status(f"   {name}"):
        child = None
        try:
            with started_whole():
                child = pexpect.spawn(
                    executable(argv[0]),
                    list(argv[1:]),
                    env=runner.process_environment(),
                    timeout=prompt_timeout_s,
                    logfile=sink,
                )
            while (prompt := child.expect([_KEEP_OR_REDO, _MIDDLE, _SWEEP, pexpect.EOF])) != 3:
                if prompt == 0:
                    child.sendline("c")
                    continue
                wanted = "middle" if prompt == 1 else "swept"
                if not _read_on_until(child, phase, wanted, hand_timeout_s):
                    raise fail(f"the bench's hand did not reach {wanted!r} within {hand_timeout_s:.0f} s")
                child.sendline("")
            child.wait()
        except pexpect.TIMEOUT:
            raise fail(f"no prompt within {prompt_timeout_s:.0f} s") from None
        finally:
            if child is not None:
                with suppress(pexpect.ExceptionPexpect):  # killed, and a busy machine is slow to say so
                    child.close(force=True)
    if child.exitstatus != 0:
        raise fail(f"exit code {child.exitstatus}, signal {child.signalstatus}")


def _read_on_until(
    child: "pexpect.spawn[bytes]", phase: Callable[[], str], wanted: str, timeout_s: float
) -> bool:
    """Wait for the hand, reading what the command prints meanwhile; says whether it came in time.

    The command prints a table at each reading of the joints. Unread, it fills the terminal's buffer, and the
    command stands still in the middle of the sweep.
    """
    deadline = time.monotonic() + timeout_s
    while phase() != wanted:
        if time.monotonic() > deadline:
            return False
        child.expect(pexpect.TIMEOUT, timeout=0.1)
    return True
