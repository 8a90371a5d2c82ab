# SPDX-License-Identifier: Apache-2.0
"""Single requests on a bus, each tried once, by dynamixel-sdk alone.

This is not the driver, on purpose: what the driver repeats or makes good is what is to be measured here.
"""

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import dynamixel_sdk as dxl
import serial

from lerobot_ext.cli.command import CommandError
from lerobot_robot_koch.doctor.expected import BAUD_RATE
from lerobot_robot_koch.ports import describe_failure

try:
    from termios import error as _TermiosError
except ImportError:  # Windows

    class _TermiosError(Exception):  # type: ignore[no-redef]
        """Never raised where there is no termios."""


_GONE: Final = (OSError, serial.SerialException, _TermiosError, TypeError)
_READ_WAIT_S: Final = 0.001
_SETTLE_S: Final = 0.01
BROADCAST_ID: Final = 254
PATIENCE_MS: Final = 34.0
"""What dynamixel-sdk waits for an answer beyond its bytes' own time."""


class Answer(NamedTuple):
    """What came of one request.

    Args:
        outcome (`str`): `ok`, `lost` (nothing came), `damaged` (bytes came that make no packet) or `refused`.
        data (`bytes`): The data, when ok.
        ms (`float`): Time from sending to the end of the answer, in milliseconds.
        error (`int`): The answer's error byte; bit 7 is the hardware alert.
    """

    outcome: str
    data: bytes
    ms: float
    error: int = 0

    @property
    def ok(self) -> bool:
        """Whether there is data."""
        return self.outcome == "ok"


class _Port(dxl.PortHandler):  # type: ignore[misc]
    """The SDK's port, which forgets old input before each request and waits without keeping a core busy."""

    patience_ms = PATIENCE_MS

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        super().setPacketTimeout(packet_length)
        self.packet_timeout += self.patience_ms - PATIENCE_MS

    def clearPort(self) -> None:  # noqa: N802 - the SDK's name
        self.ser.reset_input_buffer()

    def setupPort(self, cflag_baud: int) -> bool:  # noqa: N802
        opened: bool = super().setupPort(cflag_baud)
        self.ser.timeout = _READ_WAIT_S
        return opened


class RawBus:
    """A port that can be asked single questions; a context manager.

    Args:
        port (`str`): Serial port.
        baud_rate (`int`, *optional*, defaults to `1000000`): Bits per second.

    Raises:
        CommandError: The port cannot be opened, or has gone; the message says what to check.
    """

    def __init__(self, port: str, baud_rate: int = BAUD_RATE) -> None:
        self.port = port
        self._handler = _Port(port)
        self._packets = dxl.PacketHandler(2.0)
        cause: BaseException | None = None
        try:
            opened = self._handler.openPort() and self._handler.setBaudRate(baud_rate)
        except _GONE as error:
            opened, cause = False, error
        if not opened:
            raise CommandError(describe_failure(port, cause))

    def __enter__(self) -> "RawBus":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._handler.closePort()
        except _GONE:  # pulled out meanwhile
            return

    def set_patience(self, ms: float) -> None:
        """Wait this long for an answer, beyond its bytes' own time; not longer than the SDK does."""
        self._handler.patience_ms = min(ms, PATIENCE_MS)

    def set_baud_rate(self, baud_rate: int) -> None:
        """Go on at another speed."""
        self._guarded(self._handler.setBaudRate, baud_rate)

    def ping(self, id_: int) -> Answer:
        """Ask for the model number; its two bytes are the data."""
        start = time.perf_counter()
        number, comm, error = self._guarded(self._packets.ping, self._handler, id_)
        return _answer(comm, error & 0x80, number.to_bytes(2, "little"), start)

    def broadcast_ping(self) -> dict[int, int]:
        """Model number by id of all that answer; takes most of a second."""
        found, _ = self._guarded(self._packets.broadcastPing, self._handler)
        return {id_: data[0] for id_, data in found.items()}

    def read(self, id_: int, address: int, length: int) -> Answer:
        """Read `length` bytes of one motor's control table."""
        start = time.perf_counter()
        data, comm, error = self._guarded(self._packets.readTxRx, self._handler, id_, address, length)
        answer = _answer(comm, error, bytes(data), start)
        if answer.ok and len(answer.data) != length:
            return answer._replace(outcome="damaged", data=b"")
        return answer

    def sync_read(self, ids: Sequence[int], address: int, length: int, *, fast: bool = False) -> Answer:
        """Read the same bytes of several motors with one request; no data, only whether all answered.

        Args:
            ids (`Sequence[int]`): Whom to ask.
            address (`int`): First byte.
            length (`int`): Number of bytes.
            fast (`bool`, *optional*, defaults to `False`): As a Fast Sync Read.
        """
        group = dxl.GroupSyncRead(self._handler, self._packets, address, length)
        for id_ in ids:
            group.addParam(id_)
        start = time.perf_counter()
        try:
            comm = self._guarded(group.fastSyncRead if fast else group.txRxPacket)
        except IndexError:  # dynamixel-sdk 3.8.4 takes any packet for the answer to a Fast Sync Read
            comm = dxl.COMM_RX_CORRUPT
        answer = _answer(comm, 0, b"", start)
        if not answer.ok:
            # The SDK gives up at the first bad answer; the others must not meet the next request on the line.
            time.sleep(_SETTLE_S)
        return answer

    def write_unheard(self, id_: int, address: int, data: bytes) -> None:
        """Write without waiting for an answer; id 254 is everybody."""
        self._guarded(self._packets.writeTxOnly, self._handler, id_, address, len(data), list(data))

    def write(self, id_: int, address: int, data: bytes) -> Answer:
        """Write and wait for the acknowledgement."""
        start = time.perf_counter()
        comm, error = self._guarded(
            self._packets.writeTxRx, self._handler, id_, address, len(data), list(data)
        )
        return _answer(comm, error, b"", start)

    def _guarded(self, request: Any, *args: Any) -> Any:
        try:
            return request(*args)
        except _GONE as error:
            raise CommandError(
                f"port {self.port!r} has gone: {error or type(error).__name__}",
                "check the USB cable, then start again",
            ) from error


def knows_fast_sync_read() -> bool:
    """Whether the installed dynamixel-sdk has it (3.8.2 and later)."""
    return hasattr(dxl.GroupSyncRead, "fastSyncRead")


def _answer(comm: int, error: int, data: bytes, start: float) -> Answer:
    ms = (time.perf_counter() - start) * 1000
    if comm == dxl.COMM_RX_TIMEOUT:
        return Answer("lost", b"", ms)
    if comm != dxl.COMM_SUCCESS:
        return Answer("damaged", b"", ms)
    if error & 0x7F:
        return Answer("refused", b"", ms, error)
    return Answer("ok", data, ms, error)
