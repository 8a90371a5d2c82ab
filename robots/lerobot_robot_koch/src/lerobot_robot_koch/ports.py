# SPDX-License-Identifier: Apache-2.0
"""Says in one line why a serial port cannot be opened, which ports there are, and what to check."""

import errno
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

_MAX_LISTED = 8
TTYS: Final = Path("/sys/class/tty")
"""Where Linux shows serial ports and the latency timers of FTDI adapters."""


def existing_ports(wanted: str) -> list[str]:
    """Serial ports of this machine, and pseudo-terminals the user may have meant.

    Args:
        wanted (`str`): The port that was asked for; its neighbours are looked at when it is a virtual
            bench's.
    """
    from serial.tools import list_ports

    found = [port.device for port in list_ports.comports()]
    folders = {Path(wanted).parent, *Path(tempfile.gettempdir()).glob("koch-sim-*")}
    for folder in sorted(folders):
        for name in ("follower", "leader"):
            link = folder / name
            # A link whose pseudo-terminal is gone belongs to a bench that has ended.
            if link.is_symlink() and link.exists():
                found.append(str(link))
    if wanted.startswith("/dev/pts/"):
        found += [str(path) for path in sorted(Path("/dev/pts").glob("[0-9]*"))]
    return sorted(set(found))


def describe_failure(port: str, error: BaseException | None) -> str:
    """One line: the port, the cause, the ports that exist, what to check.

    Args:
        port (`str`): The port that was asked for.
        error (`BaseException | None`): What opening it raised, if anything.
    """
    ports = existing_ports(port)
    listed = ", ".join(ports[:_MAX_LISTED]) + (", …" if len(ports) > _MAX_LISTED else "")
    look = _windows if sys.platform == "win32" else _posix
    cause, remedy = look(port, error, ports)
    return f"Port {port!r} {cause}. Ports on this machine: {listed or 'none'}. {remedy}"


def latency_advice(port: str, otherwise: str = "") -> str:
    """How to make a slow USB adapter deliver replies at once, where its latency timer can be seen.

    An FTDI chip holds back what it received until 62 bytes are there or its timer, 16 ms from the factory,
    runs out.

    Args:
        port (`str`): The port.
        otherwise (`str`, *optional*): What to say when there is no such timer, or when it is short.
    """
    name = Path(os.path.realpath(port)).name
    timer = TTYS / name / "device" / "latency_timer"
    try:
        timer_ms = int(timer.read_text())
    except (OSError, ValueError):
        return otherwise
    if timer_ms <= 1:
        return otherwise
    return (
        f"The USB adapter holds replies back for {timer_ms} ms: `echo 1 | sudo tee "
        f"/sys/bus/usb-serial/devices/{name}/latency_timer`."
    )


_IN_USE: Final = (
    "is in use by another program",
    "Close the other program: a second LeRobot, Dynamixel Wizard, a serial monitor.",
)
_LOOK: Final = (
    "Check the USB cable and the arm's power, find the name with `lerobot-find-port`, or start a virtual arm "
    "with `lerobot-ext sim`."
)


def _posix(port: str, error: BaseException | None, _: list[str]) -> tuple[str, str]:
    """What is the matter with a device file, and what to do."""
    if not os.path.lexists(port):
        return "does not exist", _LOOK
    if not os.path.exists(port):
        return f"is a link to {os.readlink(port)!r}, which is gone", _LOOK
    if _number(error) == errno.EACCES or not os.access(port, os.R_OK | os.W_OK):
        return (
            "may not be opened by this user",
            "Give yourself the right to it: `sudo usermod -aG dialout $USER`, then log in again.",
        )
    if not Path(port).is_char_device():
        return "is a file or folder, not a serial port", _LOOK
    if _number(error) == errno.EBUSY:
        return _IN_USE
    return f"cannot be opened: {_reason(error)}", _LOOK


def _windows(port: str, error: BaseException | None, ports: list[str]) -> tuple[str, str]:
    """The same for COM ports, which are no files; pyserial only passes on the text of Windows' error."""
    if port.upper() not in (known.upper() for known in ports):
        return "does not exist", _LOOK.partition(", or start")[0] + "."
    if "PermissionError" in str(error):
        return _IN_USE  # Windows opens a serial port for one program at a time
    return f"cannot be opened: {_reason(error)}", _LOOK.partition(", or start")[0] + "."


def _reason(error: BaseException | None) -> str:
    return str(error).splitlines()[0] if error is not None and str(error) else "the speed cannot be set"


def _number(error: BaseException | None) -> int | None:
    """Operating system error number of `error` or of what caused it."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number is not None:
            return int(number)
        error = error.__cause__ or error.__context__
    return None
