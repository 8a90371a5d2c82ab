# SPDX-License-Identifier: Apache-2.0
"""Notices when code opens a device or a connection: devices must not be touched before `connect()`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_HARMLESS = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/shm", "/dev/fd", "/dev/std")
_installed = False
_watchers: list[list[str]] = []


@contextmanager
def touches() -> Iterator[list[str]]:
    """What is opened meanwhile: device files, serial ports, connections, by Python's own audit events.

    Yields:
        `list[str]`: Grows as things are opened. C++ libraries that open devices by themselves (OpenCV,
        librealsense) are not seen.
    """
    global _installed
    if not _installed:
        sys.addaudithook(_audit)  # for good: Python knows no way to remove one
        _installed = True
    seen: list[str] = []
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watchers:
        return
    touched = _touched(event, arguments)
    if touched:
        for seen in _watchers:
            seen.append(touched)


def _touched(event: str, arguments: tuple[Any, ...]) -> str:
    """What an audit event opens, empty when it is none of our concern."""
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = arguments[0].decode(errors="replace") if isinstance(arguments[0], bytes) else arguments[0]
        is_device = path.startswith("/dev/") and not path.startswith(_HARMLESS)
        return f"opened {path}" if is_device or path.upper().lstrip("\\.").startswith("COM") else ""
    if event in ("socket.connect", "socket.bind"):
        return f"{event.removeprefix('socket.')}: {arguments[1]}"
    return ""
