# SPDX-License-Identifier: Apache-2.0
"""The serial line: one exchange at a time, a request and the replies to it, within a deadline.

Replies carry no request number, so an answer that comes too late can be taken for the next one's. Three
things keep that from happening: input is cleared before each exchange; for a while after an unanswered
request the number of bytes asked for differs from one exchange to the next (`n_extra`), so that a reply to
an earlier one has the wrong length; and who writes asks `may_hear_late_replies` whether an acknowledgement
can be trusted.
"""

import logging
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import dynamixel_sdk as dxl
import serial

from lerobot_robot_koch.alerts import CRC_ERROR, code_of
from lerobot_robot_koch.errors import CHECK, BusLostError
from lerobot_robot_koch.losses import note_loss
from lerobot_robot_koch.round_trip import FAST, PATIENT_S, RoundTrip
from lerobot_robot_koch.wire import Reply, ReplyParser, encode, read_request, reply_bytes

try:
    from termios import error as _TermiosError
except ImportError:  # Windows

    class _TermiosError(Exception):  # type: ignore[no-redef]
        """Never raised where there is no termios."""


logger = logging.getLogger(__name__)

_PORT_ERRORS: Final = (OSError, serial.SerialException, _TermiosError, TypeError)
"""What a port that has gone raises; `TypeError` is pyserial's, whose file descriptor has become `None`."""
_LATE_S: Final = 0.5
"""How long after an unanswered request its answer may still arrive."""
_N_EXTRA: Final = 10
"""Most bytes asked for beyond what is wanted."""
_LAST_PLAIN_ADDRESS: Final = 146
"""End of the X series' control table without gaps that matter: extra bytes are not asked for beyond it."""
PING_DATA: Final = 3
"""Bytes of data in the reply to a ping: model number and firmware."""
_POLL_S: Final = 0.0002
_TAG_PROBES: Final = (132, 52)
"""`Present_Position` with what follows it, and `Min_Position_Limit` with the gap behind it."""
_N_PROBES: Final = 8


class Port(dxl.PortHandler):  # type: ignore[misc]
    """The SDK's port, except that `clearPort` also forgets what was received, and that errors are ours.

    The SDK's own requests (a broadcast ping while motors are set up) go through it as well.
    """

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn whatever a port that has gone raises into one error.

        Raises:
            BusLostError: The port has gone, as when the cable was pulled.
        """
        try:
            yield
        except _PORT_ERRORS as error:
            if isinstance(error, BusLostError):
                raise
            note_loss()
            raise BusLostError(
                f"port {self.port_name!r} has gone: {error or type(error).__name__}. {CHECK}."
            ) from error

    def clearPort(self) -> None:  # noqa: N802 - the SDK's name
        """Drop what was received; the SDK calls this before it sends each request."""
        with self.guarded():
            self.ser.reset_input_buffer()

    def readPort(self, length: int) -> bytes:  # noqa: N802
        """Up to `length` bytes that are there."""
        with self.guarded():
            return bytes(self.ser.read(length))

    def writePort(self, packet: Any) -> int:  # noqa: N802
        """Send `packet`; the number of bytes sent."""
        with self.guarded():
            return int(self.ser.write(packet))

    def ask_for_low_latency(self) -> None:
        """Have a Linux FTDI adapter deliver replies at once instead of every 16 ms, where that is allowed."""
        try:
            self.ser.set_low_latency_mode(True)
        except (ValueError, NotImplementedError, AttributeError, OSError) as error:
            logger.debug("%s: no low-latency mode: %s", self.port_name, error)


@dataclass
class LinkCounts:
    """What went over the line since the link was made.

    Attributes:
        n_exchanges (`int`): Exchanges begun.
        n_requests (`int`): Requests sent; more than exchanges where some were repeated.
        n_replies (`int`): Replies used.
        n_missed (`int`): Times a request ended without the reply of a motor it had asked.
        n_damaged (`int`): Packets given up because of their CRC or length.
        n_foreign (`int`): Whole replies that did not belong to the exchange: too late, or nobody asked for.
    """

    n_exchanges: int = 0
    n_requests: int = 0
    n_replies: int = 0
    n_missed: int = 0
    n_damaged: int = 0
    n_foreign: int = 0


class Link:
    """Exchanges over one port.

    Args:
        port (`Port`): The port; opened and closed by its owner.

    Attributes:
        round_trip (`RoundTrip`): How long answers take.
        counts (`LinkCounts`): What went over the line.
        tags_reads (`bool`): Whether reads ask for a changing number of bytes; see `learn_tagging`.
    """

    def __init__(self, port: Port) -> None:
        self.port = port
        self.round_trip = RoundTrip()
        self.counts = LinkCounts()
        self.tags_reads = False
        self._n_reads = 0
        self._late_until_s = 0.0

    def send(self, request: bytes) -> None:
        """Send a request that nobody answers.

        Raises:
            BusLostError: The port has gone.
        """
        self.counts.n_requests += 1
        self.port.writePort(request)

    def may_hear_late_replies(self) -> bool:
        """Whether the answer to an earlier request may still be on its way."""
        return time.monotonic() < self._late_until_s

    def n_extra(self, address: int, length: int) -> int:
        """How many bytes to ask for beyond `length` in the next read, so that its replies are told apart."""
        tags = self.tags_reads and address + length + _N_EXTRA <= _LAST_PLAIN_ADDRESS
        if not tags or not self.may_hear_late_replies():
            return 0
        extra = 1 + self._n_reads % (_N_EXTRA - 1)
        self._n_reads += 1
        return _N_EXTRA if length + extra == PING_DATA else extra

    def ask(self, id_: int, instruction: int, params: bytes, n_data: int) -> "Exchange":
        """Begin an exchange with one servo that answers with `n_data` bytes."""
        return Exchange(self, [id_], n_data, lambda ids: encode(ids[0], instruction, params))

    def read(self, ids: Sequence[int], address: int, length: int, *, fast: bool = False) -> "Exchange":
        """Begin reading `length` bytes from `address` of each servo; see `Exchange`.

        Args:
            ids (`Sequence[int]`): Whom to ask, in the order in which they will answer.
            address (`int`): First byte.
            length (`int`): Number of bytes wanted.
            fast (`bool`, *optional*, defaults to `False`): Send the first request as a Fast Sync Read.
        """
        total = length + self.n_extra(address, length)
        first = read_request(ids, address, total, fast=True) if fast else None
        return Exchange(
            self, ids, total, lambda missing: read_request(missing, address, total), first_request=first
        )

    def learn_tagging(self, ids: Sequence[int]) -> bool:
        """Tag reads from now on if every servo answers reads that go beyond a register's end.

        The X series does; a servo that refused would make each such read fail, so it is asked first.
        """
        self.tags_reads = all(self._answers_longer_reads(ids, address) for address in _TAG_PROBES)
        return self.tags_reads

    def _answers_longer_reads(self, ids: Sequence[int], address: int) -> bool:
        exchange = Exchange(
            self, ids, 4 + _N_EXTRA, lambda missing: read_request(missing, address, 4 + _N_EXTRA)
        )
        return any(exchange.run_once(float("inf"), patient=n > 0) for n in range(_N_PROBES)) and all(
            reply.data for reply in exchange.replies.values()
        )

    def note_unanswered(self) -> None:
        """A request went unanswered: its answer may still come."""
        self._late_until_s = time.monotonic() + _LATE_S

    def wait_readable(self, until_s: float) -> bool:
        """Wait until there is something to read; `False` if there is nothing at `until_s` (monotonic)."""
        with self.port.guarded():
            if sys.platform != "win32":
                left = max(until_s - time.monotonic(), 0.0)
                return bool(select.select([self.port.ser.fileno()], [], [], left)[0])
            while not self.port.ser.in_waiting:
                if time.monotonic() >= until_s:
                    return False
                time.sleep(_POLL_S)
            return True

    def receive(self) -> bytes:
        """What has arrived; there is something after `wait_readable`.

        Raises:
            BusLostError: The port has gone.
        """
        with self.port.guarded():
            return bytes(self.port.ser.read(max(1, self.port.ser.in_waiting)))


class Exchange:
    """One question to some servos, asked until each has answered or the caller has enough.

    A reply to any request of the exchange counts, so that a slow one is not lost to a repetition.

    Args:
        link (`Link`): The line.
        ids (`Sequence[int]`): Whom to ask, in the order in which they will answer.
        n_data (`int`): Bytes of data each answers with.
        make_request (`Callable`): The request for those that have not answered yet.
        first_request (`bytes | None`, *optional*): A Fast Sync Read to begin with.

    Attributes:
        started_s (`float`): Monotonic time of the first request: no reply is older.
        n_tries (`int`): Requests sent.
        waited_s (`float`): How long the last one waited for answers, without the time for which the program
            itself was held up.
        replies (`dict[int, Reply]`): Answers by id.
        missing (`list[int]`): Ids that have not answered.
    """

    def __init__(
        self,
        link: Link,
        ids: Sequence[int],
        n_data: int,
        make_request: Callable[[list[int]], bytes],
        *,
        first_request: bytes | None = None,
    ) -> None:
        self._link = link
        self._n_data = n_data
        self._make_request = make_request
        self._first_request = first_request
        self._parser = ReplyParser(n_data, len(ids) if first_request else 0)
        self.started_s = 0.0
        self.n_tries = 0
        self.waited_s = 0.0
        self.replies: dict[int, Reply] = {}
        self.missing = list(ids)

    def run_once(self, deadline_s: float, *, patient: bool = False) -> bool:
        """Ask those that are missing, once, and take their answers.

        Args:
            deadline_s (`float`): Monotonic time at which to stop waiting even if the usual time is not over.
            patient (`bool`, *optional*, defaults to `False`): Wait at least as long as dynamixel-sdk does,
                for a bus that may have become slower than it was.

        Returns:
            `bool`: Whether all have answered.

        Raises:
            BusLostError: The port has gone.
        """
        asked, link, trip = list(self.missing), self._link, self._link.round_trip
        fast_request = self._first_request if self.n_tries == 0 else None
        if self.n_tries == 0:
            link.port.clearPort()
            link.counts.n_exchanges += 1
            self.started_s = time.monotonic()
        self.n_tries += 1
        link.send(fast_request or self._make_request(asked))
        sent_s, n_before, wire_s = time.monotonic(), len(self.replies), self._wire_s(len(asked))
        n_expected = FAST if fast_request else len(asked)
        wait_s = max(trip.timeout(n_expected), PATIENT_S if patient else 0.0)
        until_s = min(sent_s + wire_s + wait_s, deadline_s)
        silence_s = self._collect(asked, until_s, patient)
        self.waited_s = min(time.monotonic(), until_s) - sent_s
        if not self.missing and (self.n_tries == 1 or patient):
            trip.succeeded(n_expected, max(time.monotonic() - sent_s - wire_s, 0.0), silence_s)
        elif len(self.replies) > n_before:
            trip.heard()
        else:
            trip.failed()
        if self.missing:
            link.counts.n_missed += len(self.missing)
            link.note_unanswered()
        return not self.missing

    def _wire_s(self, n: int) -> float:
        """Time the bytes of `n` replies take on the line at least, at ten bits a byte."""
        return n * reply_bytes(self._n_data) * 10 / float(self._link.port.baudrate)

    def _collect(self, asked: list[int], until_s: float, patient: bool) -> float | None:
        """Take replies until all or the last one asked has answered, the line falls silent, or time is over.

        Returns:
            `float | None`: The longest silence after the first byte, in seconds; `None` if all came at once.
        """
        link, damaged_before = self._link, self._parser.n_damaged
        last_s, longest_s = 0.0, None
        gap_s = float("inf") if patient else link.round_trip.gap()
        while link.wait_readable(min(until_s, last_s + gap_s) if last_s else until_s):
            now_s = time.monotonic()
            if last_s:
                longest_s = max(longest_s or 0.0, now_s - last_s)
            last_s = now_s
            for reply in self._parser.feed(link.receive()):
                self._take(reply)
            # Servos answer in the order asked: behind the last one's reply there is nothing to wait for.
            if not self.missing or asked[-1] not in self.missing:
                break
            if now_s >= until_s:
                break  # a line that only makes noise is readable for ever
        else:
            for reply in self._parser.flush():
                self._take(reply)
        link.counts.n_damaged += self._parser.n_damaged - damaged_before
        return longest_s

    def _take(self, reply: Reply) -> None:
        counts, code = self._link.counts, code_of(reply.error)
        refused = code != 0 and not reply.data
        if reply.id not in self.missing or not (refused or len(reply.data) == self._n_data):
            counts.n_foreign += 1
            return
        if code == CRC_ERROR:
            return  # the servo received the request damaged: as good as lost
        counts.n_replies += 1
        self.replies[reply.id] = reply
        self.missing.remove(reply.id)
