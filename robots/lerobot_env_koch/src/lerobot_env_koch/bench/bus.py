# SPDX-License-Identifier: Apache-2.0
"""A Dynamixel bus behind a pseudo-terminal: a thread that answers instruction packets for a set of servos.

The thread waits for nothing but the port: the physics hands the servos its results by plain attribute
assignment. Answers leave at the time a 1 Mbit/s bus would deliver them; when the host delays them further,
that is counted apart from the injected faults, because it says something about the machine and not about the
driver under test.
"""

import select
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple

from lerobot_env_koch.bench.fault_injector import FaultInjector
from lerobot_env_koch.bench.faults import FaultPlan
from lerobot_env_koch.bench.instructions import Responder
from lerobot_env_koch.bench.latency_timer import LatencyTimer
from lerobot_env_koch.bench.port import VirtualPort
from lerobot_env_koch.bench.priority import prefer_this_thread
from lerobot_env_koch.bench.protocol import Instruction, Packet, PacketParser
from lerobot_env_koch.bench.servo import Servo
from lerobot_env_koch.bench.trace import TraceWriter

TURNAROUND_S: Final = 0.5e-3
"""Assumed delay of one status packet: USB adapter, half-duplex turn, servo firmware."""

BITS_PER_BYTE: Final = 10
LATE_S: Final = 10e-3
"""A reply this much later than planned, or a port left alone this long, counts as the host's fault."""

LATE_LOG: Final = 1000
"""How many of the host's delays are kept with their time."""

_CLOSED_POLL_S: Final = 0.005
_IDLE_POLL_S: Final = 0.005
_SLEEP_BELOW_S: Final = 0.002  # `poll` counts in whole milliseconds: the last ones are slept
_PLUG_TIMEOUT_S: Final = 2.0


@dataclass
class BusStats:
    """What happened on one bus since it started.

    Attributes:
        n_instructions (`int`): Instruction packets understood.
        n_status (`int`): Status packets sent; of a FAST SYNC READ, each servo's part.
        n_bytes_in (`int`): Bytes the client sent.
        n_bytes_out (`int`): Bytes sent to the client.
        n_late (`int`): Replies the host delayed by more than `LATE_S` (not injected faults).
        max_late_ms (`float`): The worst of those delays, in milliseconds.
        n_stalls (`int`): Times the bus thread itself was not run for longer than `LATE_S`.
        max_stall_ms (`float`): The longest of those times, in milliseconds.
        n_opened (`int`): Times a client opened the port.
    """

    n_instructions: int = 0
    n_status: int = 0
    n_bytes_in: int = 0
    n_bytes_out: int = 0
    n_late: int = 0
    max_late_ms: float = 0.0
    n_stalls: int = 0
    max_stall_ms: float = 0.0
    n_opened: int = 0


class _Held(NamedTuple):
    """An instruction that waits for the end of a stall."""

    ready_s: float
    packet: Packet


class _Outgoing(NamedTuple):
    """Bytes that leave at a time."""

    due_s: float
    data: bytes


class VirtualBus:
    """Serves `servos` on a new pseudo-terminal until `stop` is called.

    Args:
        name (`str`): What it is called in threads and messages.
        servos (`Iterable[Servo]`): The servos on this bus.
        faults (`FaultInjector`): Decides which packets are lost, damaged or late.
        link (`Path | None`, *optional*): A stable name for the port.
        trace (`TraceWriter | None`, *optional*): Where to write down every packet.

    Attributes:
        is_open (`bool`): Whether a client has the port open.
    """

    def __init__(
        self,
        name: str,
        servos: Iterable[Servo],
        faults: FaultInjector,
        link: Path | None = None,
        trace: TraceWriter | None = None,
    ) -> None:
        self.name = name
        self.servos = list(servos)
        self.faults = faults
        self.stats = BusStats()
        self.is_open = False
        self._trace = trace
        self._late_log: deque[tuple[float, float]] = deque(maxlen=LATE_LOG)
        self._responder = Responder()
        self._parser = PacketParser()
        self._adapter = LatencyTimer()
        self._held: deque[_Held] = deque()
        self._outgoing: deque[_Outgoing] = deque()
        self._busy_until_s = 0.0
        self._faults_set_s = faults.set_s
        self._stopping = False
        self._want_plugged = True
        self._port = VirtualPort(link)
        self._thread = threading.Thread(target=self._serve, name=f"bus-{name}", daemon=True)

    @property
    def port(self) -> str:
        """Path of the pseudo-terminal a client opens."""
        return self._port.path

    @property
    def plugged(self) -> bool:
        """Whether the port exists."""
        return self._port.plugged

    @property
    def last_position_read_s(self) -> float:
        """Monotonic time of the last read that covered `Present_Position`."""
        return self._responder.last_position_read_s

    def start(self) -> None:
        """Begin to answer."""
        self._port.show()
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and close the pseudo-terminal; a client then sees its port vanish."""
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)
        self._port.unplug()

    def unplug(self) -> None:
        """Pull the USB cable: the port vanishes, the servos keep their power. Returns when it is done.

        Raises:
            RuntimeError: The bus thread does not run.
        """
        self._set_plugged(False)

    def plug(self) -> None:
        """Put the cable back: a new port under the same link. Returns when it is there.

        Raises:
            RuntimeError: The bus thread does not run.
        """
        self._set_plugged(True)

    def set_faults(self, plan: FaultPlan) -> None:
        """Inject other faults from now on.

        Raises:
            ValueError: The bus replays a trace.
        """
        self.faults.set_plan(plan)
        if self._trace is not None:
            self._trace.event(self.name, f"fault {plan}", time.monotonic())

    def report(self) -> dict[str, object]:
        """Statistics for the status report."""
        return {
            "port": self.port,
            "plugged": self.plugged,
            "open": self.is_open,
            **asdict(self.stats),
            "max_late_ms": round(self.stats.max_late_ms, 1),
            "max_stall_ms": round(self.stats.max_stall_ms, 1),
            "late_log": [[round(at_s, 4), round(ms, 1)] for at_s, ms in self._late_log.copy()],
            "n_crc_errors_received": self._parser.n_crc_errors,
            "fault_plan": str(self.faults.plan),
            "faults": self.faults.counts.as_dict(),
        }

    # --- the thread

    def _serve(self) -> None:
        prefer_this_thread()
        while not self._stopping:
            self._change_plug()
            if not self._port.plugged:
                time.sleep(_CLOSED_POLL_S)
                continue
            self._notice_new_faults()
            self._raise_alerts()
            self._run_held()
            self._send_due()
            self._wait()

    def _wait(self) -> None:
        """Until a request comes in or something is due."""
        waiting_since = time.monotonic()
        next_s = min(
            self._outgoing[0].due_s if self._outgoing else waiting_since + 1.0,
            self._held[0].ready_s if self._held else waiting_since + 1.0,
        )
        pause_s = next_s - waiting_since
        if pause_s < _SLEEP_BELOW_S:
            time.sleep(max(0.0, pause_s))
            return
        timeout_s = min(_IDLE_POLL_S, pause_s - _SLEEP_BELOW_S / 2)
        poller = select.poll()
        poller.register(self._port.master, select.POLLIN)
        events = poller.poll(timeout_s * 1000)
        now = time.monotonic()
        if self.is_open and now - waiting_since > timeout_s + LATE_S:
            self._note_stall(now, (now - waiting_since - timeout_s) * 1000)
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
        self._held.clear()
        self._outgoing.clear()
        self._busy_until_s = 0.0
        if is_open:
            self.stats.n_opened += 1

    # --- the plug

    def _set_plugged(self, plugged: bool) -> None:
        if not self._thread.is_alive():
            raise RuntimeError(f"the {self.name} bus does not run; start the bench first.")
        self._want_plugged = plugged
        end_s = time.monotonic() + _PLUG_TIMEOUT_S
        while self.plugged is not plugged:
            if time.monotonic() > end_s:
                raise RuntimeError(f"the {self.name} bus did not react within {_PLUG_TIMEOUT_S:g} s.")
            time.sleep(_CLOSED_POLL_S)

    def _change_plug(self) -> None:
        if self._port.plugged and self.faults.take_unplug(time.monotonic()):
            self._want_plugged = False
        if self._want_plugged is self._port.plugged:
            return
        self._set_open(False)
        if self._want_plugged:
            self._port.plug()
        else:
            self._port.unplug()
        if self._trace is not None:
            self._trace.event(self.name, "plug" if self._want_plugged else "unplug", time.monotonic())

    def _notice_new_faults(self) -> None:
        """Setting other faults ends the delays that the old ones imposed."""
        set_s = self.faults.set_s
        if set_s == self._faults_set_s:
            return
        self._faults_set_s, now = set_s, time.monotonic()
        self._held = deque(_Held(now, held.packet) for held in self._held)
        self._outgoing = deque(_Outgoing(now, item.data) for item in self._outgoing)
        self._busy_until_s = now

    def _raise_alerts(self) -> None:
        for alert in self.faults.take_alerts():
            for servo in self.servos:
                if servo.id == alert.id:
                    servo.raise_error(alert.bits)

    # --- requests

    def _receive(self, now: float) -> None:
        data = self._port.read()
        self.stats.n_bytes_in += len(data)
        for packet in self._parser.feed(data):
            if packet.instruction == Instruction.STATUS:
                continue
            self.stats.n_instructions += 1
            fate = self.faults.instruction(now)
            if self._trace is not None:
                self._trace.instruction(self.name, packet, fate, now)
            if fate.lost:
                continue
            self._raise_alerts()
            ready_s = now + fate.late_ms / 1000
            if self._held:
                ready_s = max(ready_s, self._held[-1].ready_s)
            if ready_s > now:
                self._held.append(_Held(ready_s, packet))
            else:
                self._answer(packet, now)
            now = time.monotonic()

    def _run_held(self) -> None:
        """Answer what waited for the end of a stall."""
        while self._held and self._held[0].ready_s <= time.monotonic():
            held = self._held.popleft()
            self._answer(held.packet, held.ready_s)

    # --- answers

    def _answer(self, packet: Packet, start_s: float) -> None:
        baud = self._port.baud_rate()
        listening = [servo for servo in self.servos if servo.baud_rate == baud]
        answer = self._responder.answer(packet, listening)
        byte_s = BITS_PER_BYTE / baud if baud else 0.0
        due_s = max(start_s, self._busy_until_s)
        for reply, fate in zip(answer.replies, self.faults.replies(answer, start_s), strict=True):
            if fate.lost != "chain":
                due_s += len(reply.raw) * byte_s + (0.0 if reply.is_part else TURNAROUND_S + reply.delay_s)
                fate = fate if fate.lost else self.faults.hold(fate, due_s + fate.late_ms / 1000)
                due_s += fate.late_ms / 1000
            if self._trace is not None:
                self._trace.status(self.name, packet, reply, fate, due_s)
            if sent := fate.apply(reply.raw):
                self.stats.n_status += 1
                self._schedule(sent, due_s, byte_s)
        self._outgoing.extend(_Outgoing(*portion) for portion in self._adapter.rest())
        self._busy_until_s = due_s

    def _schedule(self, data: bytes, due_s: float, byte_s: float) -> None:
        timer_s = self.faults.plan.latency_timer_ms / 1000
        if timer_s:
            portions = self._adapter.feed(data, due_s, byte_s, timer_s)
            self._outgoing.extend(_Outgoing(*portion) for portion in portions)
        else:
            self._outgoing.append(_Outgoing(due_s, data))

    def _send_due(self) -> None:
        while self._outgoing and self._outgoing[0].due_s <= time.monotonic():
            due_s, data = self._outgoing.popleft()
            self.stats.n_bytes_out += self._port.write(data)
            now = time.monotonic()
            if now - due_s > LATE_S:
                self._note_late(now, (now - due_s) * 1000)

    # --- what the host did

    def _note_late(self, now: float, ms: float) -> None:
        self.stats.n_late += 1
        self.stats.max_late_ms = max(self.stats.max_late_ms, ms)
        self._late_log.append((now, ms))

    def _note_stall(self, now: float, ms: float) -> None:
        self.stats.n_stalls += 1
        self.stats.max_stall_ms = max(self.stats.max_stall_ms, ms)
        self._late_log.append((now, ms))
