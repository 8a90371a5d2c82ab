# SPDX-License-Identifier: Apache-2.0
"""Faults the bench can inject into what its servos answer.

They are written as `drop=0.05,crc=0.01,late_ms=40@0.01,silent=3:200`:

| fault | meaning |
|---|---|
| `drop=P` | each status packet is lost with probability P |
| `drop_every=N` | every N-th status packet is lost |
| `crc=P` | each status packet has one byte damaged with probability P |
| `late_ms=MS@P` | each status packet is MS milliseconds late with probability P; so are those behind it |
| `silent=ID:MS` | servo ID answers nothing for MS milliseconds, counted from the first request to it |
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

KINDS: Final = "drop=P, drop_every=N, crc=P, late_ms=MS@P, silent=ID:MS"


@dataclass(frozen=True)
class FaultPlan:
    """Which faults to inject; the default injects none.

    Args:
        drop (`float`, *optional*, defaults to `0.0`): Probability that a status packet is lost.
        drop_every (`int`, *optional*, defaults to `0`): Lose every n-th status packet; 0 loses none.
        crc (`float`, *optional*, defaults to `0.0`): Probability that a status packet is damaged.
        late_ms (`float`, *optional*, defaults to `0.0`): How late a late packet is, in milliseconds.
        late (`float`, *optional*, defaults to `0.0`): Probability that a status packet is late.
        silent_id (`int`, *optional*, defaults to `0`): Servo that falls silent; 0 for none.
        silent_ms (`float`, *optional*, defaults to `0.0`): For how long, in milliseconds.
    """

    drop: float = 0.0
    drop_every: int = 0
    crc: float = 0.0
    late_ms: float = 0.0
    late: float = 0.0
    silent_id: int = 0
    silent_ms: float = 0.0

    def __post_init__(self) -> None:
        for name in ("drop", "crc", "late"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"fault `{name}` ({value}) must be a probability between 0 and 1.")
        for name in ("drop_every", "late_ms", "silent_id", "silent_ms"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"fault `{name}` ({value}) must not be negative.")

    @classmethod
    def parse(cls, text: str) -> "FaultPlan":
        """Read a plan as the command line writes it.

        Raises:
            ValueError: A kind is unknown or its value malformed; the message names it and lists what is
            possible.
        """
        values: dict[str, float | int] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            kind, _, value = item.partition("=")
            try:
                values.update(_parse_item(kind, value))
            except (ValueError, KeyError):
                raise ValueError(f"fault {item!r} is not understood; write {KINDS}.") from None
        return cls(**values)  # type: ignore[arg-type]

    def __str__(self) -> str:
        parts = []
        if self.drop:
            parts.append(f"drop={self.drop:g}")
        if self.drop_every:
            parts.append(f"drop_every={self.drop_every}")
        if self.crc:
            parts.append(f"crc={self.crc:g}")
        if self.late:
            parts.append(f"late_ms={self.late_ms:g}@{self.late:g}")
        if self.silent_id:
            parts.append(f"silent={self.silent_id}:{self.silent_ms:g}")
        return ",".join(parts) or "none"


def _parse_item(kind: str, value: str) -> dict[str, float | int]:
    if kind in ("drop", "crc"):
        return {kind: float(value)}
    if kind == "drop_every":
        return {kind: int(value)}
    if kind == "late_ms":
        late_ms, _, probability = value.partition("@")
        return {"late_ms": float(late_ms), "late": float(probability)}
    if kind == "silent":
        id_, _, duration = value.removesuffix("ms").partition(":")
        return {"silent_id": int(id_), "silent_ms": float(duration)}
    raise KeyError(kind)


@dataclass
class FaultCounts:
    """How many faults of each kind were injected."""

    dropped: int = 0
    corrupted: int = 0
    delayed: int = 0
    silenced: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class FaultInjector:
    """Decides the fate of each status packet; same seed, same sequence.

    Args:
        plan (`FaultPlan`): What to inject.
        seed (`int`): Seed of its random numbers.
        clock (`Callable[[], float]`, *optional*): Time in seconds, for `silent`.
    """

    def __init__(self, plan: FaultPlan, seed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = FaultCounts()
        self._random = random.Random(seed)
        self._clock = clock
        self.set_plan(plan)

    @property
    def plan(self) -> FaultPlan:
        """The plan in force."""
        return self._plan

    def set_plan(self, plan: FaultPlan) -> None:
        """Change the plan; counts go on, a `silent` fault starts anew."""
        self._plan = plan
        self._n_packets = 0
        self._silent_until: float | None = None

    def apply(self, id_: int, raw: bytes) -> tuple[bytes | None, float]:
        """What becomes of one status packet.

        Args:
            id_ (`int`): The servo that sends it.
            raw (`bytes`): The packet.

        Returns:
            `tuple[bytes | None, float]`: The bytes to send, `None` for none, and how many seconds late.
        """
        plan = self._plan
        self._n_packets += 1
        if self._is_silent(id_):
            self.counts.silenced += 1
            return None, 0.0
        if plan.drop_every and self._n_packets % plan.drop_every == 0:
            self.counts.dropped += 1
            return None, 0.0
        if plan.drop and self._random.random() < plan.drop:
            self.counts.dropped += 1
            return None, 0.0
        if plan.crc and self._random.random() < plan.crc:
            self.counts.corrupted += 1
            # Any byte after the header: a damaged header would look like a lost packet instead.
            index = self._random.randrange(8, len(raw))
            raw = raw[:index] + bytes([raw[index] ^ (1 << self._random.randrange(8))]) + raw[index + 1 :]
        if plan.late and self._random.random() < plan.late:
            self.counts.delayed += 1
            return raw, plan.late_ms / 1000
        return raw, 0.0

    def _is_silent(self, id_: int) -> bool:
        if not self._plan.silent_id or id_ != self._plan.silent_id:
            return False
        now = self._clock()
        if self._silent_until is None:
            self._silent_until = now + self._plan.silent_ms / 1000
        return now < self._silent_until
