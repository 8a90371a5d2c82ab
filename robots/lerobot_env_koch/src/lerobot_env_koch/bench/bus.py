# SPDX-License-Identifier: Apache-2.0
"""A Dynamixel bus behind a pseudo-terminal: a thread that answers instruction packets for a set of servos.

The thread waits for nothing but the port: the physics hands the servos its results by plain attribute
assignment. Answers leave at the time a 1 Mbit/s bus would deliver them; when the host delays them further,
that is counted apart from the injected faults, because it says something about the machine and not about the
driver under test.
"""

import os
import re
import select
import termios
import threading
import time
import tty
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from lerobot_env_koch.bench.faults import FaultInjector
from lerobot_env_koch.bench.protocol import (
    BROADCAST_ID,
    ErrorCode,
    Instruction,
    Packet,
    PacketParser,
    encode_fast_status,
    encode_status,
)
from lerobot_env_koch.bench.servo import Servo

TURNAROUND_S: Final = 0.5e-3
"""Assumed delay of one status packet: USB adapter, half-duplex turn, servo firmware."""

BITS_PER_BYTE: Final = 10
LATE_S: Final = 10e-3
"""A reply this much later than planned, or a port left alone this long, counts as the host's fault."""

_CLOSED_POLL_S: Final = 0.005
_IDLE_POLL_S: Final = 0.05
_PRESENT_POSITION: Final = 132
_BAUD_OF_CONSTANT: Final = {
    getattr(termios, name): int(name[1:]) for name in dir(termios) if re.fullmatch(r"B\d+", name)
}


@dataclass
class BusStats:
    """What happened on one bus since it started.

    Attributes:
        n_instructions (`int`): Instruction packets understood.
        n_status (`int`): Status packets sent.
        n_late (`int`): Replies the host delayed by more than `LATE_S` (not injected faults).
        max_late_ms (`float`): The worst of those delays, in milliseconds.
        n_stalls (`int`): Times the bus thread itself was not run for longer than `LATE_S`.
        n_opened (`int`): Times a client opened the port.
    """

    n_instructions: int = 0
    n_status: int = 0
    n_late: int = 0
    max_late_ms: float = 0.0
    n_stalls: int = 0
    n_opened: int = 0


class VirtualBus:
    """Serves `servos` on a new pseudo-terminal until `stop` is called.

    Args:
        name (`str`): What it is called in threads and messages.
        servos (`Iterable[Servo]`): The servos on this bus.
        faults (`FaultInjector`): Decides which status packets are lost, damaged or late.

    Attributes:
        port (`str`): Path of the pseudo-terminal a client opens.
        is_open (`bool`): Whether a client has the port open.
        last_position_read_s (`float`): Monotonic time of the last read that covered `Present_Position`.
    """

    def __init__(self, name: str, servos: Iterable[Servo], faults: FaultInjector) -> None:
        self.name = name
        self.servos = list(servos)
        self.faults = faults
        self.stats = BusStats()
        self.is_open = False
        self.last_position_read_s = -1e9
        self._parser = PacketParser()
        self._stopping = False
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        # Once opened and closed, the master reports POLLHUP until a client opens the port: that is how we
        # know.
        os.close(slave)
        os.set_blocking(self._master, False)
        self._thread = threading.Thread(target=self._serve, name=f"bus-{name}", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and close the pseudo-terminal; a client then sees its port vanish."""
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def report(self) -> dict[str, object]:
        """Statistics for the status report."""
        return {
            "port": self.port,
            "open": self.is_open,
            **asdict(self.stats),
            "max_late_ms": round(self.stats.max_late_ms, 1),
            "n_crc_errors_received": self._parser.n_crc_errors,
            "fault_plan": str(self.faults.plan),
            "faults": self.faults.counts.as_dict(),
        }

    # --- the thread

    def _serve(self) -> None:
        prefer_this_thread()
        poller = select.poll()
        poller.register(self._master, select.POLLIN)
        while not self._stopping:
            waiting_since = time.monotonic()
            events = poller.poll(_IDLE_POLL_S * 1000)
            now = time.monotonic()
            if self.is_open and now - waiting_since > _IDLE_POLL_S + LATE_S:
                self.stats.n_stalls += 1
            flags = events[0][1] if events else 0
            if flags & select.POLLIN:
                self._set_open(True)
                self._receive(now)
            elif flags & select.POLLHUP:
                self._set_open(False)
                time.sleep(_CLOSED_POLL_S)
            else:
                self._set_open(True)

    def _set_open(self, is_open: bool) -> None:
        if is_open == self.is_open:
            return
        self.is_open = is_open
        self._parser.clear()
        if is_open:
            self.stats.n_opened += 1

    def _receive(self, now: float) -> None:
        try:
            data = os.read(self._master, 4096)
        except (BlockingIOError, OSError):
            return
        baud = self._baud_rate()
        for packet in self._parser.feed(data):
            if packet.instruction == Instruction.STATUS:
                continue
            self.stats.n_instructions += 1
            listening = [servo for servo in self.servos if servo.baud_rate == baud]
            self._answer(packet, listening, now, baud)
            now = time.monotonic()

    def _baud_rate(self) -> int:
        """Speed to which the client set the port."""
        return _BAUD_OF_CONSTANT.get(termios.tcgetattr(self._master)[4], 0)

    def _answer(self, packet: Packet, servos: list[Servo], start: float, baud: int) -> None:
        due = start
        for id_, delay_s, raw in self._replies(packet, servos):
            due += TURNAROUND_S + delay_s + len(raw) * BITS_PER_BYTE / baud
            sent, late_s = self.faults.apply(id_, raw)
            due += late_s
            if sent is None:
                continue
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            try:
                os.write(self._master, sent)
            except (BlockingIOError, OSError):
                return  # the client closed the port, or does not read what it asked for
            self.stats.n_status += 1
            late = time.monotonic() - due
            if late > LATE_S:
                self.stats.n_late += 1
                self.stats.max_late_ms = max(self.stats.max_late_ms, late * 1000)

    # --- what each instruction means

    def _replies(self, packet: Packet, servos: list[Servo]) -> list[tuple[int, float, bytes]]:
        """Carry out `packet`; `(id, return delay in s, status packet)` of each servo that answers."""
        by_id = {servo.id: servo for servo in servos}
        if packet.instruction in (Instruction.SYNC_READ, Instruction.FAST_SYNC_READ):
            return self._sync_read(packet, by_id)
        if packet.instruction == Instruction.SYNC_WRITE:
            self._sync_write(packet, by_id)
            return []
        if packet.id == BROADCAST_ID:
            addressed = sorted(servos, key=lambda servo: servo.id)
            if packet.instruction != Instruction.PING:
                for servo in addressed:
                    self._execute(servo, packet)
                return []
        else:
            addressed = [by_id[packet.id]] if packet.id in by_id else []
        replies = []
        for servo in addressed:
            id_, delay_s = servo.id, servo.return_delay_s
            error, params = self._execute(servo, packet)
            if servo.status_return_level >= _level_needed(packet.instruction):
                replies.append((id_, delay_s, encode_status(id_, error | servo.alert, params)))
        return replies

    def _execute(self, servo: Servo, packet: Packet) -> tuple[ErrorCode, bytes]:
        params = packet.params
        if packet.instruction == Instruction.PING:
            return ErrorCode.NONE, servo.ping()
        if packet.instruction == Instruction.READ:
            if len(params) != 4:
                return ErrorCode.DATA_LENGTH, b""
            address = int.from_bytes(params[:2], "little")
            length = int.from_bytes(params[2:4], "little")
            self._note_read(address, length)
            return servo.read(address, length)
        if packet.instruction in (Instruction.WRITE, Instruction.REG_WRITE):
            if len(params) < 3:
                return ErrorCode.DATA_LENGTH, b""
            write = servo.write if packet.instruction == Instruction.WRITE else servo.register_write
            return write(int.from_bytes(params[:2], "little"), params[2:]), b""
        if packet.instruction == Instruction.ACTION:
            return servo.action(), b""
        if packet.instruction == Instruction.REBOOT:
            servo.reboot()
            return ErrorCode.NONE, b""
        if packet.instruction == Instruction.CLEAR:
            return servo.clear_multi_turn(), b""
        return ErrorCode.INSTRUCTION, b""

    def _sync_read(self, packet: Packet, by_id: dict[int, Servo]) -> list[tuple[int, float, bytes]]:
        if len(packet.params) < 5:
            return []
        address = int.from_bytes(packet.params[:2], "little")
        length = int.from_bytes(packet.params[2:4], "little")
        self._note_read(address, length)
        asked = [by_id[id_] for id_ in packet.params[4:] if id_ in by_id]
        results = []
        for servo in asked:
            error, data = servo.read(address, length)
            results.append((servo, error | servo.alert, data))
        if packet.instruction == Instruction.SYNC_READ:
            return [(s.id, s.return_delay_s, encode_status(s.id, e, d)) for s, e, d in results]
        if not results:
            return []
        raw = encode_fast_status([(s.id, e, d) for s, e, d in results])
        return [(results[0][0].id, max(s.return_delay_s for s in asked), raw)]

    def _sync_write(self, packet: Packet, by_id: dict[int, Servo]) -> None:
        if len(packet.params) < 4:
            return
        address = int.from_bytes(packet.params[:2], "little")
        length = int.from_bytes(packet.params[2:4], "little")
        rest = packet.params[4:]
        while len(rest) >= 1 + length:
            servo = by_id.get(rest[0])
            if servo is not None:
                servo.write(address, rest[1 : 1 + length])
            rest = rest[1 + length :]

    def _note_read(self, address: int, length: int) -> None:
        if address <= _PRESENT_POSITION < address + length:
            self.last_position_read_s = time.monotonic()


def _level_needed(instruction: int) -> int:
    """Smallest status return level at which a servo answers `instruction`."""
    if instruction == Instruction.PING:
        return 0
    return 1 if instruction == Instruction.READ else 2


def prefer_this_thread() -> None:
    """Let the calling thread run before other work, where the host allows it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    except (OSError, AttributeError):
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        except (OSError, AttributeError):
            return
