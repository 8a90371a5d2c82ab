# SPDX-License-Identifier: Apache-2.0
"""Asks a bus for a few seconds and notes what it answers. Pings and reads only: nothing moves or lets go."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from lerobot_ext.doctor.adapter import Adapter, describe_adapter
from lerobot_robot_koch.config_bus import JOINTS
from lerobot_robot_koch.doctor.expected import BAUD_RATE, OTHER_BAUD_RATES
from lerobot_robot_koch.doctor.raw_bus import PATIENCE_MS, Answer, RawBus, knows_fast_sync_read

IDS: Final = tuple(range(1, len(JOINTS) + 1))
_N_TRIES: Final = 6
"""Tries for what is asked once: at 5 % loss each way a motor is then overlooked once in a million times."""
_PRESENT_POSITION: Final = (132, 4)
_N_SYNC: Final = 150
_N_WARM_UP: Final = 10
_PATIENCE: Final = 3
_MIN_PATIENCE_MS: Final = 12.0
"""A host that is busy for a moment is no lost answer."""
# Registers by block: (address, length), then name -> (address, length).
_BLOCKS: Final = {
    (6, 26): {
        "firmware": (6, 1),
        "return_delay": (9, 1),
        "drive_mode": (10, 1),
        "operating_mode": (11, 1),
        "homing_offset": (20, 4),
        "temperature_limit": (31, 1),
    },
    (48, 8): {"range_max": (48, 4), "range_min": (52, 4)},
    (64, 7): {"torque": (64, 1), "status_return_level": (68, 1), "hardware_error": (70, 1)},
    (132, 4): {"position": (132, 4)},
    (144, 3): {"decivolts": (144, 2), "temperature": (146, 1)},
}


@dataclass
class RoundTrips:
    """Requests of one kind and what came of them.

    Attributes:
        n (`int`): Requests.
        n_lost (`int`): Nothing came.
        n_damaged (`int`): Something came that was no packet.
        ms (`list[float]`): Times of the others, in milliseconds.
    """

    n: int = 0
    n_lost: int = 0
    n_damaged: int = 0
    ms: list[float] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Count one."""
        self.n += 1
        self.n_lost += answer.outcome == "lost"
        self.n_damaged += answer.outcome == "damaged"
        if answer.outcome in ("ok", "refused"):
            self.ms.append(answer.ms)

    @property
    def n_failed(self) -> int:
        """Requests without a usable answer."""
        return self.n_lost + self.n_damaged

    @property
    def loss(self) -> float:
        """Their share, 0 to 1."""
        return self.n_failed / self.n if self.n else 0.0

    def quantile(self, q: float) -> float | None:
        """Time in milliseconds that a share `q` of the answers did not exceed."""
        if not self.ms:
            return None
        return sorted(self.ms)[min(int(q * len(self.ms)), len(self.ms) - 1)]

    def summary(self) -> dict[str, float | int | None]:
        """For JSON."""
        p50, p99 = self.quantile(0.5), self.quantile(0.99)
        return {
            "n": self.n,
            "n_lost": self.n_lost,
            "n_damaged": self.n_damaged,
            "loss": round(self.loss, 5),
            "p50_ms": None if p50 is None else round(p50, 2),
            "p99_ms": None if p99 is None else round(p99, 2),
        }


@dataclass
class MotorReport:
    """One motor.

    Attributes:
        id (`int`): Bus id.
        model (`int | None`): Model number it answers to a ping; `None` when it does not answer.
        registers (`dict[str, int]`): What could be read, by the names in `_BLOCKS`.
        reads (`RoundTrips`): Single reads, each tried once.
    """

    id: int
    model: int | None = None
    registers: dict[str, int] = field(default_factory=dict)
    reads: RoundTrips = field(default_factory=RoundTrips)

    @property
    def volts(self) -> float | None:
        """Supply as the motor measures it."""
        return self.registers["decivolts"] / 10 if "decivolts" in self.registers else None


@dataclass
class BusReport:
    """Everything that was measured on one port.

    Attributes:
        arm (`str`): `koch_follower` or `koch_leader`: what it was said to be.
        port (`str`): The port.
        adapter (`Adapter`): What is behind it.
        motors (`list[MotorReport]`): Ids 1 to 6, in the order of the cables.
        baud_rate (`int`): Where they were asked.
        other_baud_rates (`dict[int, list[int]]`): Ids that answer elsewhere, by baud rate; only looked for
            when nobody answers.
        strangers (`dict[int, int]`): Model number by id of motors that the arm does not have.
        sync_reads (`RoundTrips`): Sync Reads of all motors that answer.
        fast_sync_reads (`RoundTrips | None`): The same as Fast Sync Reads; `None`: not tried.
    """

    arm: str
    port: str
    adapter: Adapter
    motors: list[MotorReport] = field(default_factory=list)
    baud_rate: int = BAUD_RATE
    other_baud_rates: dict[int, list[int]] = field(default_factory=dict)
    strangers: dict[int, int] = field(default_factory=dict)
    sync_reads: RoundTrips = field(default_factory=RoundTrips)
    fast_sync_reads: RoundTrips | None = None

    @property
    def present(self) -> list[MotorReport]:
        """Motors that answer."""
        return [motor for motor in self.motors if motor.model is not None]

    @property
    def fast_sync_read_works(self) -> bool | None:
        """Whether any Fast Sync Read was answered; `None`: not tried."""
        return None if self.fast_sync_reads is None else bool(self.fast_sync_reads.ms)


def measure(arm: str, bus: RawBus, seconds: float, progress: Callable[[float], None]) -> BusReport:
    """Examine a bus.

    Args:
        arm (`str`): `koch_follower` or `koch_leader`.
        bus (`RawBus`): Its bus.
        seconds (`float`): About how long to take; more where motors are missing.
        progress (`Callable[[float], None]`): Told the share that is done, 0 to 1.

    Raises:
        CommandError: The port has gone.
    """
    start = time.monotonic()

    def tell() -> None:
        progress(min((time.monotonic() - start) / seconds, 1.0))

    report = BusReport(arm, bus.port, describe_adapter(bus.port))
    report.motors = [_identify(bus, id_, tell) for id_ in IDS]
    if not report.present:
        report.other_baud_rates = _search(bus, tell)
        progress(1.0)
        return report
    report.strangers = {id_: model for id_, model in bus.broadcast_ping().items() if id_ not in IDS}
    tell()
    ids = [motor.id for motor in report.present]
    left = seconds - (time.monotonic() - start)
    _read_in_turn(bus, report.present, 0.5 * left, tell)
    _sync_read(bus, ids, report.sync_reads, 0.25 * left, tell, fast=False)
    if knows_fast_sync_read():
        report.fast_sync_reads = RoundTrips()
        _sync_read(bus, ids, report.fast_sync_reads, 0.25 * left, tell, fast=True)
    progress(1.0)
    return report


def _identify(bus: RawBus, id_: int, tell: Callable[[], None]) -> MotorReport:
    """Ping a motor and read its settings, with repetitions."""
    motor = MotorReport(id_)
    answer = _insist(lambda: bus.ping(id_))
    tell()
    if not answer.ok:
        return motor
    motor.model = int.from_bytes(answer.data, "little")
    for (begin, length), registers in _BLOCKS.items():
        answer = _insist(lambda begin=begin, length=length: bus.read(id_, begin, length))  # type: ignore[misc]
        tell()
        if answer.ok:
            for name, (address, size) in registers.items():
                raw = answer.data[address - begin : address - begin + size]
                motor.registers[name] = int.from_bytes(raw, "little", signed=size == 4)
    return motor


def _insist(request: Callable[[], Answer]) -> Answer:
    for _ in range(_N_TRIES):
        answer = request()
        if answer.ok:
            break
    return answer


def _search(bus: RawBus, tell: Callable[[], None]) -> dict[int, list[int]]:
    """Ids that answer at another baud rate."""
    found: dict[int, list[int]] = {}
    for baud_rate in OTHER_BAUD_RATES:
        bus.set_baud_rate(baud_rate)
        ids = [id_ for id_ in IDS if bus.ping(id_).ok]
        tell()
        if ids:
            found[baud_rate] = ids
    return found


def _read_in_turn(
    bus: RawBus, motors: Sequence[MotorReport], seconds: float, tell: Callable[[], None]
) -> None:
    """Read each motor's position in turn until the time is over, at least a few times."""
    end = time.monotonic() + seconds
    n_rounds = 0
    while time.monotonic() < end or n_rounds < _N_WARM_UP:
        for motor in motors:
            motor.reads.add(bus.read(motor.id, *_PRESENT_POSITION))
        n_rounds += 1
        tell()
        if n_rounds == _N_WARM_UP:
            # A lost answer costs the whole wait: as short as this bus allows, it leaves time for more reads.
            slowest = max((ms for motor in motors for ms in motor.reads.ms), default=PATIENCE_MS)
            bus.set_patience(max(_PATIENCE * slowest, _MIN_PATIENCE_MS))
    bus.set_patience(PATIENCE_MS)


def _sync_read(
    bus: RawBus,
    ids: Sequence[int],
    trips: RoundTrips,
    seconds: float,
    tell: Callable[[], None],
    *,
    fast: bool,
) -> None:
    end = time.monotonic() + seconds
    for n in range(_N_SYNC):
        # A few at least, but not for ever on motors that do not know the instruction.
        if time.monotonic() > end and n >= _N_TRIES:
            break
        if n >= 2 * _N_TRIES and not trips.ms:
            break
        trips.add(bus.sync_read(ids, *_PRESENT_POSITION, fast=fast))
        tell()
