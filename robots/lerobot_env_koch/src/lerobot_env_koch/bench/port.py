# SPDX-License-Identifier: Apache-2.0
"""A pseudo-terminal that can be pulled out and put back like the USB plug of a serial adapter."""

import os
import re
import termios
import tty
from pathlib import Path
from typing import Final

_BAUD_OF_CONSTANT: Final = {
    getattr(termios, name): int(name[1:]) for name in dir(termios) if re.fullmatch(r"B\d+", name)
}


class VirtualPort:
    """The adapter's end of a pseudo-terminal; not thread-safe.

    Args:
        link (`Path | None`, *optional*): A stable name for the port, whose own changes with every plugging
            in. It exists while the port is plugged in and `show` has been called.

    Attributes:
        path (`str`): What a client opens; the last one's while the port is pulled out.
        master (`int`): File descriptor of the adapter's end; -1 while it is pulled out.
    """

    def __init__(self, link: Path | None = None) -> None:
        self.path = ""
        self.master = -1
        self._link = link
        self._shown = False
        self.plug()

    @property
    def plugged(self) -> bool:
        """Whether a client can open the port."""
        return self.master >= 0

    def show(self) -> None:
        """Let the link appear, now and with each plugging in."""
        self._shown = True
        self._make_link()

    def plug(self) -> None:
        """Make a new pseudo-terminal, if there is none."""
        if self.plugged:
            return
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        # Once opened and closed, the master reports POLLHUP until a client opens the port: that is how the
        # bus knows.
        os.close(slave)
        os.set_blocking(self.master, False)
        self._make_link()

    def unplug(self) -> None:
        """Let the port vanish; a client that has it open gets input/output errors from now on."""
        if not self.plugged:
            return
        if self._link is not None and self._shown:
            self._link.unlink(missing_ok=True)
        master, self.master = self.master, -1
        os.close(master)

    def read(self) -> bytes:
        """What the client has sent; empty if nothing, or if it closed the port."""
        try:
            return os.read(self.master, 4096)
        except OSError:
            return b""

    def write(self, data: bytes) -> int:
        """How many bytes the client's side took; 0 if it closed the port or does not read."""
        try:
            return os.write(self.master, data)
        except OSError:
            return 0

    def baud_rate(self) -> int:
        """Speed to which the client set the port; 0 if it is no usual one."""
        try:
            return _BAUD_OF_CONSTANT.get(termios.tcgetattr(self.master)[4], 0)
        except (OSError, termios.error):
            return 0  # the client has just closed the port

    def _make_link(self) -> None:
        if self._link is None or not self._shown:
            return
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(self.path)
