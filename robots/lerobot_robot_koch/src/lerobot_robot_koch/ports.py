# SPDX-License-Identifier: Apache-2.0
"""Says in one line why a serial port cannot be opened, which ports there are, and what to check."""

import errno
import os
import tempfile
from pathlib import Path

_MAX_LISTED = 8


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
    return f"{_cause(port, error)} Ports on this machine: {listed or 'none'}. {_remedy(port, error)}"


def latency_advice(port: str, otherwise: str = "") -> str:
    """How to make a slow USB adapter deliver replies at once, where its latency timer can be seen.

    An FTDI chip holds back what it received until 62 bytes are there or its timer, 16 ms from the factory,
    runs out.

    Args:
        port (`str`): The port.
        otherwise (`str`, *optional*): What to say when there is no such timer, or when it is short.
    """
    name = Path(os.path.realpath(port)).name
    timer = Path("/sys/class/tty") / name / "device" / "latency_timer"
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


def _cause(port: str, error: BaseException | None) -> str:
    if not os.path.lexists(port):
        return f"Port {port!r} does not exist."
    if not os.path.exists(port):
        return f"Port {port!r} is a link to {os.readlink(port)!r}, which is gone."
    if _number(error) == errno.EACCES or not os.access(port, os.R_OK | os.W_OK):
        return f"Port {port!r} may not be opened by this user."
    if not Path(port).is_char_device():
        return f"Port {port!r} is a file or folder, not a serial port."
    if _number(error) == errno.EBUSY:
        return f"Port {port!r} is in use by another program."
    reason = str(error) if error is not None else "the speed cannot be set"
    return f"Port {port!r} cannot be opened: {reason.splitlines()[0]}."


def _remedy(port: str, error: BaseException | None) -> str:
    if os.path.exists(port) and not os.access(port, os.R_OK | os.W_OK):
        return "Give yourself the right to it: `sudo usermod -aG dialout $USER`, then log in again."
    if _number(error) == errno.EBUSY:
        return "Close the other program."
    return (
        "Check the USB cable and the arm's power, find the name with `lerobot-find-port`, or start a virtual "
        "arm with `lerobot-ext sim`."
    )


def _number(error: BaseException | None) -> int | None:
    """Operating system error number of `error` or of what caused it."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number is not None:
            return int(number)
        error = error.__cause__ or error.__context__
    return None
