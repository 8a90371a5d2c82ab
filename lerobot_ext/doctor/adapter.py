# SPDX-License-Identifier: Apache-2.0
"""What stands between the program and the bus: the USB adapter, its latency timer, other programs."""

import os
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SYSFS: Final = Path("/sys/bus/usb-serial/devices")
_ASYNC_LOW_LATENCY: Final = 1 << 13  # linux/tty_flags.h
_FLAGS_AT: Final = 4  # index of `flags` in struct serial_struct, counted in ints (linux/serial.h)


@dataclass(frozen=True)
class Adapter:
    """The adapter behind a port, as far as the system tells.

    Args:
        device (`str`): The port with links followed, such as `/dev/ttyUSB0`.
        name (`str`): What the adapter calls itself; empty for a port that is no USB device.
        usb_id (`str`): Vendor and product, such as `0403:6014`; empty when unknown.
        latency_timer_ms (`int | None`): How long an FTDI chip gathers bytes; `None` when there is no such
            setting.
        low_latency (`bool | None`): Linux's low-latency flag, which sets that time to 1 ms; `None` when
            unknown.
    """

    device: str
    name: str = ""
    usb_id: str = ""
    latency_timer_ms: int | None = None
    low_latency: bool | None = None

    @property
    def latency_timer_path(self) -> str:
        """File that sets the latency timer, on Linux."""
        return str(_SYSFS / Path(self.device).name / "latency_timer")


def describe_adapter(port: str, sysfs: Path = _SYSFS) -> Adapter:
    """Look at the adapter of a port; changes nothing.

    Args:
        port (`str`): The port.
        sysfs (`Path`, *optional*): Where Linux lists USB serial devices.
    """
    from serial.tools import list_ports

    device = os.path.realpath(port)
    info = next((p for p in list_ports.comports() if os.path.realpath(p.device) == device), None)
    is_usb = info is not None and info.vid is not None
    return Adapter(
        device=device,
        name=(info.description or "") if info is not None and is_usb else "",
        usb_id=f"{info.vid:04x}:{info.pid:04x}" if info is not None and is_usb else "",
        latency_timer_ms=_latency_timer(sysfs / Path(device).name / "latency_timer"),
        low_latency=_low_latency(device),
    )


def other_programs(port: str, proc: Path = Path("/proc")) -> list[str]:
    """Programs other than this one that have the port open, as `pid 123 (lerobot-record)`; Linux only.

    Args:
        port (`str`): The port.
        proc (`Path`, *optional*): The process file system.
    """
    try:
        wanted = os.stat(port).st_rdev
    except OSError:
        return []
    holders = []
    for folder in proc.glob("[0-9]*"):
        if int(folder.name) != os.getpid() and wanted and _holds(folder, wanted):
            holders.append(f"pid {folder.name} ({_program(folder)})")
    return sorted(holders)


def _holds(folder: Path, wanted: int) -> bool:
    try:
        return any(_device_of(descriptor) == wanted for descriptor in (folder / "fd").iterdir())
    except OSError:  # another user's process, or one that has ended
        return False


def _device_of(descriptor: Path) -> int:
    try:
        return descriptor.stat().st_rdev
    except OSError:
        return 0


def _program(folder: Path) -> str:
    try:
        words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "?"
    # A Python script's own name says more than the interpreter's.
    names = [Path(word).name for word in words[:2] if word and not word.startswith("-")]
    return names[-1] if names else "?"


def _latency_timer(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _low_latency(device: str) -> bool | None:
    """Linux's flag, read without taking the port from anybody."""
    if not sys.platform.startswith("linux"):
        return None
    import fcntl
    import termios

    settings = array("i", [0] * 32)
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        fcntl.ioctl(descriptor, termios.TIOCGSERIAL, settings)
    except OSError:  # no serial hardware behind it, as with a pseudo-terminal
        return None
    finally:
        os.close(descriptor)
    return bool(settings[_FLAGS_AT] & _ASYNC_LOW_LATENCY)
