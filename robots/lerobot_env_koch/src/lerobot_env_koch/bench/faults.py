# SPDX-License-Identifier: Apache-2.0
"""Which faults the bench injects, as the command line writes them: `drop=0.05,late_ms=40@0.01,silent=3:200`.

| fault | meaning |
|---|---|
| `drop=P` | each status packet is lost with probability P |
| `drop_every=N` | every N-th status packet is lost |
| `burst=P@N[:L]` | a share P is lost, in bursts of N status packets on average (see `Burst`) |
| `crc=P` | each status packet has one bit inverted with probability P |
| `noise=P` | 1 to 8 bytes of garbage come before a status packet with probability P |
| `truncate=P` | a status packet breaks off with probability P |
| `late_ms=MS@P` | each status packet is MS milliseconds late with probability P; so are those behind it |
| `txdrop=P` | each instruction is lost on its way to the servos with probability P |
| `silent=ID:MS` | servo ID answers nothing for MS milliseconds, counted from the first request to it |
| `stall=MS` | nothing is answered for MS milliseconds; requests queue and are answered then |
| `chain` | in a SYNC READ, a lost answer silences the servos behind it |
| `latency_timer=MS` | answers leave as an FTDI chip with this timer sends them (see `LatencyTimer`) |
| `alert=ID:KIND` | hardware error of servo ID: voltage, overheating, encoder, shock or overload |
| `unplug` | the port vanishes, as when the USB cable is pulled |

`silent`, `stall` and `unplug` take a start, `@Ts`: T seconds after the first request that follows the setting
of the faults. `silent`, `stall` and `alert` may be given several times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

KINDS: Final = (
    "drop=P, drop_every=N, burst=P@N[:L], crc=P, noise=P, truncate=P, late_ms=MS@P, txdrop=P, "
    "silent=ID:MS[@Ts], stall=MS[@Ts], chain, latency_timer=MS, alert=ID:KIND, unplug[@Ts]"
)
ALERTS: Final[dict[str, int]] = {
    "voltage": 0x01,
    "overheating": 0x04,
    "encoder": 0x08,
    "shock": 0x10,
    "overload": 0x20,
}
"""Kinds of `alert` and their bits in `Hardware_Error_Status`."""

_PROBABILITIES: Final = ("drop", "crc", "noise", "truncate", "late", "txdrop")
_NOT_NEGATIVE: Final = ("drop_every", "late_ms", "latency_timer_ms")


@dataclass(frozen=True)
class Burst:
    """Losses in bursts, by the model of Gilbert and Elliott: a good state and a bad one.

    Args:
        rate (`float`): Share of status packets lost in the long run, 0 to below `loss`.
        length (`float`): Mean number of status packets from the beginning of a bad state to its end, >= 1.
        loss (`float`, *optional*, defaults to `1.0`): Probability of a loss in the bad state.

    Raises:
        ValueError: There is no such process; names the value.
    """

    rate: float
    length: float
    loss: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.loss <= 1:
            raise ValueError(f"fault `burst` loses {self.loss} within a burst; give a probability above 0.")
        if not 0 <= self.rate < self.loss:
            raise ValueError(
                f"fault `burst` rate ({self.rate}) must be at least 0 and below the loss in a burst, "
                f"{self.loss}."
            )
        bad = self.rate / self.loss
        shortest = max(1.0, bad / (1 - bad))
        if not self.length >= shortest:
            raise ValueError(
                f"fault `burst` length ({self.length}) is too short for a loss of {self.rate}; give "
                f"{shortest:.3g} packets or more."
            )

    @property
    def enter(self) -> float:
        """Probability that a burst begins at a packet of the good state."""
        bad = self.rate / self.loss  # long-run share of packets in the bad state
        return bad / (1 - bad) / self.length

    @property
    def leave(self) -> float:
        """Probability that a burst ends after one of its packets."""
        return 1 / self.length

    def __str__(self) -> str:
        return f"burst={self.rate:g}@{self.length:g}" + (f":{self.loss:g}" if self.loss != 1 else "")


@dataclass(frozen=True)
class Silence:
    """Servo `id` answers nothing for `ms` milliseconds, from `at_s` on, or from the first request to it."""

    id: int
    ms: float
    at_s: float | None = None

    def __post_init__(self) -> None:
        if self.id < 0 or not self.ms >= 0 or not (self.at_s or 0) >= 0:
            raise ValueError(f"fault `{self}` must not hold a negative number.")

    def __str__(self) -> str:
        return f"silent={self.id}:{self.ms:g}{_start(self.at_s)}"


@dataclass(frozen=True)
class Stall:
    """The whole bus does nothing for `ms` milliseconds, from `at_s` seconds after the first request on."""

    ms: float
    at_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.ms >= 0 or not self.at_s >= 0:
            raise ValueError(f"fault `{self}` must not hold a negative number.")

    def __str__(self) -> str:
        return f"stall={self.ms:g}{_start(self.at_s or None)}"


@dataclass(frozen=True)
class Alert:
    """Servo `id` reports the hardware error `kind`, one of `ALERTS`."""

    id: int
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in ALERTS:
            raise ValueError(f"fault `alert` kind {self.kind!r} is not known; choose {', '.join(ALERTS)}.")

    @property
    def bits(self) -> int:
        """Its bit in `Hardware_Error_Status`."""
        return ALERTS[self.kind]

    def __str__(self) -> str:
        return f"alert={self.id}:{self.kind}"


@dataclass(frozen=True)
class FaultPlan:
    """Which faults to inject; the default injects none.

    Args:
        drop (`float`, *optional*, defaults to `0.0`): Probability that a status packet is lost.
        drop_every (`int`, *optional*, defaults to `0`): Lose every n-th status packet; 0 loses none.
        burst (`Burst | None`, *optional*): Losses in bursts.
        crc (`float`, *optional*, defaults to `0.0`): Probability that a status packet is damaged.
        noise (`float`, *optional*, defaults to `0.0`): Probability of garbage before a status packet.
        truncate (`float`, *optional*, defaults to `0.0`): Probability that a status packet breaks off.
        late_ms (`float`, *optional*, defaults to `0.0`): How late a late packet is, in milliseconds.
        late (`float`, *optional*, defaults to `0.0`): Probability that a status packet is late.
        txdrop (`float`, *optional*, defaults to `0.0`): Probability that an instruction is lost.
        silent (`tuple[Silence, ...]`, *optional*): Servos that fall silent for a time.
        stalls (`tuple[Stall, ...]`, *optional*): Times in which nothing is answered.
        chain (`bool`, *optional*, defaults to `False`): Whether a lost answer silences the servos behind it.
        latency_timer_ms (`float`, *optional*, defaults to `0.0`): Latency timer of the adapter; 0 for none.
        alerts (`tuple[Alert, ...]`, *optional*): Hardware errors of servos.
        unplug_s (`float | None`, *optional*): When the port vanishes, in seconds after the first request.

    Raises:
        ValueError: A value is out of range; the message names the fault.
    """

    drop: float = 0.0
    drop_every: int = 0
    burst: Burst | None = None
    crc: float = 0.0
    noise: float = 0.0
    truncate: float = 0.0
    late_ms: float = 0.0
    late: float = 0.0
    txdrop: float = 0.0
    silent: tuple[Silence, ...] = ()
    stalls: tuple[Stall, ...] = ()
    chain: bool = False
    latency_timer_ms: float = 0.0
    alerts: tuple[Alert, ...] = ()
    unplug_s: float | None = None

    def __post_init__(self) -> None:
        for name in _PROBABILITIES:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"fault `{name}` ({value}) must be a probability between 0 and 1.")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"fault `{name}` ({value}) must not be negative.")
        if self.unplug_s is not None and not self.unplug_s >= 0:
            raise ValueError(f"fault `unplug` ({self.unplug_s} s) must not be negative.")

    @classmethod
    def parse(cls, text: str) -> "FaultPlan":
        """Read a plan as the command line writes it.

        Raises:
            ValueError: A kind is unknown or its value malformed; the message names it and lists what is
            possible.
        """
        values: dict[str, Any] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            kind, _, value = item.partition("=")
            kind, value = _with_start(kind, value)
            try:
                parsed = _PARSERS[kind](value)
            except _FaultError:
                raise
            except (ValueError, KeyError):
                raise ValueError(f"fault {item!r} is not understood; write {KINDS}.") from None
            for name, new in parsed.items():
                # What may be given several times is kept in tuples.
                values[name] = (*values.get(name, ()), *new) if isinstance(new, tuple) else new
        return cls(**values)

    def __str__(self) -> str:
        parts = [f"{name}={getattr(self, name):g}" for name in ("drop", "drop_every") if getattr(self, name)]
        if self.burst is not None:
            parts.append(str(self.burst))
        parts += [
            f"{name}={getattr(self, name):g}" for name in ("crc", "noise", "truncate") if getattr(self, name)
        ]
        if self.late:
            parts.append(f"late_ms={self.late_ms:g}@{self.late:g}")
        if self.txdrop:
            parts.append(f"txdrop={self.txdrop:g}")
        parts += map(str, self.silent + self.stalls)
        if self.chain:
            parts.append("chain")
        if self.latency_timer_ms:
            parts.append(f"latency_timer={self.latency_timer_ms:g}")
        parts += map(str, self.alerts)
        if self.unplug_s is not None:
            parts.append(f"unplug{_start(self.unplug_s or None)}")
        return ",".join(parts) or "none"


class _FaultError(ValueError):
    """A fault that was understood and is impossible; its message says why."""


def _start(at_s: float | None) -> str:
    return "" if at_s is None else f"@{at_s:g}s"


def _with_start(kind: str, value: str) -> tuple[str, str]:
    """`unplug@5s` has its start without a value."""
    name, at, start = kind.partition("@")
    return (name, at + start) if at else (kind, value)


def _at(text: str) -> tuple[str, float | None]:
    """Split off `@Ts`."""
    value, at, start = text.partition("@")
    return value, float(start.removesuffix("s")) if at else None


def _flag(value: str) -> bool:
    if value:
        raise ValueError(value)
    return True


def _checked[T](make: Callable[..., T], *values: object) -> T:
    try:
        return make(*values)
    except ValueError as error:
        raise _FaultError(str(error)) from None


def _burst(text: str) -> dict[str, Any]:
    rate, _, rest = text.partition("@")
    length, colon, loss = rest.partition(":")
    return {"burst": _checked(Burst, float(rate), float(length), float(loss) if colon else 1.0)}


def _late(text: str) -> dict[str, Any]:
    late_ms, _, probability = text.partition("@")
    return {"late_ms": float(late_ms.removesuffix("ms")), "late": float(probability)}


def _silent(text: str) -> dict[str, Any]:
    value, at_s = _at(text)
    id_, _, duration = value.partition(":")
    return {"silent": (_checked(Silence, int(id_), float(duration.removesuffix("ms")), at_s),)}


def _stall(text: str) -> dict[str, Any]:
    value, at_s = _at(text)
    return {"stalls": (_checked(Stall, float(value.removesuffix("ms")), at_s or 0.0),)}


def _alert(text: str) -> dict[str, Any]:
    id_, _, kind = text.partition(":")
    return {"alerts": (_checked(Alert, int(id_), kind),)}


def _unplug(text: str) -> dict[str, Any]:
    value, at_s = _at(text)
    _flag(value)
    return {"unplug_s": at_s or 0.0}


def _number(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda text: {name: float(text)}


_PARSERS: Final[dict[str, Callable[[str], dict[str, Any]]]] = {
    **{name: _number(name) for name in ("drop", "crc", "noise", "truncate", "txdrop")},
    "drop_every": lambda text: {"drop_every": int(text)},
    "burst": _burst,
    "late_ms": _late,
    "silent": _silent,
    "stall": _stall,
    "chain": lambda text: {"chain": _flag(text)},
    "latency_timer": lambda text: {"latency_timer_ms": float(text.removesuffix("ms"))},
    "alert": _alert,
    "unplug": _unplug,
}


def check_ids(plan: FaultPlan, ids: Sequence[int]) -> None:
    """Refuse a plan that names a servo which the bus does not have.

    Raises:
        ValueError: Names the fault and the ids there are.
    """
    named: tuple[Silence | Alert, ...] = (*plan.silent, *plan.alerts)
    for item in named:
        if item.id not in ids:
            raise ValueError(
                f"fault `{item}` names servo {item.id}; this bus has ids {', '.join(map(str, ids))}."
            )
