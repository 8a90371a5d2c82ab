# SPDX-License-Identifier: Apache-2.0
"""Plays the person in front of `lerobot-calibrate`: reads its prompts and presses ENTER in time."""

from collections.abc import Callable, Sequence

import pexpect

from lerobot_ext.quickstart.runner import Runner, StepError
from lerobot_ext.quickstart.settings import executable

_KEEP_OR_REDO = r"or type 'c' and press ENTER"
_MIDDLE = r"middle of its range"
_SWEEP = r"Press ENTER to stop"


def run_calibration(
    runner: Runner,
    name: str,
    argv: Sequence[str],
    *,
    swept: Callable[[], bool],
    in_middle: Callable[[], bool],
    timeout_s: float,
    remedy: str,
) -> None:
    """Run one `lerobot-calibrate` to its end.

    Args:
        runner (`Runner`): Shows and logs the command.
        name (`str`): Names the log file.
        argv (`Sequence[str]`): The command.
        swept (`Callable[[], bool]`): Waits until the hand has moved each joint through its range.
        in_middle (`Callable[[], bool]`): Waits until the hand holds the arm in mid-range.
        timeout_s (`float`): Longest wait for one prompt.
        remedy (`str`): What to try when it fails.

    Raises:
        StepError: If a prompt does not come, the hand does not do its part, or the command fails.
    """
    command = runner.show(argv)
    log = runner.logs / f"{name}.log"

    def fail(reason: str) -> StepError:
        return StepError(command, reason, log, remedy)

    with log.open("wb") as sink, runner.console.status(f"   {name}"):
        child = pexpect.spawn(
            executable(argv[0]),
            list(argv[1:]),
            env=runner.process_environment(),
            timeout=timeout_s,
            logfile=sink,
        )
        try:
            while (prompt := child.expect([_KEEP_OR_REDO, _MIDDLE, _SWEEP, pexpect.EOF])) != 3:
                if prompt == 0:
                    child.sendline("c")
                    continue
                ready = in_middle if prompt == 1 else swept
                if not ready():
                    raise fail(
                        f"the hand did not {'hold the arm still' if prompt == 1 else 'sweep the joints'}"
                    )
                child.sendline("")
            child.wait()
        except pexpect.TIMEOUT:
            raise fail(f"no prompt within {timeout_s:.0f} s") from None
        finally:
            child.close(force=True)
    if child.exitstatus != 0:
        raise fail(f"exit code {child.exitstatus}, signal {child.signalstatus}")
