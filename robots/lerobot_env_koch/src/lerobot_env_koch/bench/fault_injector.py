# SPDX-License-Identifier: Apache-2.0
"""Decides what becomes of each packet on one bus, by a plan of faults and a seed."""

import random
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from lerobot_env_koch.bench.fate import Fate, body_start
from lerobot_env_koch.bench.faults import Alert, FaultPlan, Silence
from lerobot_env_koch.bench.instructions import Answer, Reply

MAX_NOISE_BYTES: Final = 8
_COUNTER_OF: Final = {
    "drop": "dropped",
    "burst": "burst_lost",
    "silent": "silenced",
    "chain": "chained",
    "txdrop": "instructions_lost",
}


@dataclass
class FaultCounts:
    """How many faults of each kind were injected.

    Attributes:
        dropped (`int`): Status packets lost by `drop` and `drop_every`.
        burst_lost (`int`): Status packets lost by `burst`.
        silenced (`int`): Status packets not sent by a silent servo.
        chained (`int`): Status packets not sent because the one before was lost.
        truncated (`int`): Status packets that broke off.
        corrupted (`int`): Status packets with a damaged byte.
        noisy (`int`): Status packets with garbage before them.
        delayed (`int`): Status packets made late by `late_ms`.
        instructions_lost (`int`): Instructions that no servo heard.
        stalled (`int`): Instructions and answers held back by `stall`.
        alerts (`int`): Hardware errors raised.
        unplugged (`int`): Times the plan pulled the cable.
    """

    dropped: int = 0
    burst_lost: int = 0
    silenced: int = 0
    chained: int = 0
    truncated: int = 0
    corrupted: int = 0
    noisy: int = 0
    delayed: int = 0
    instructions_lost: int = 0
    stalled: int = 0
    alerts: int = 0
    unplugged: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)

    def add(self, fate: Fate) -> None:
        """Count the fate of a status packet, or of an instruction that was lost."""
        if fate.lost:
            name = _COUNTER_OF.get(fate.lost, "dropped")
            setattr(self, name, getattr(self, name) + 1)
            return
        self.truncated += fate.keep is not None
        self.corrupted += fate.flip is not None
        self.noisy += bool(fate.noise)
        self.delayed += fate.late_ms > 0


@dataclass
class _Run:
    """A plan in force, with everything that begins anew when it is set."""

    plan: FaultPlan
    set_s: float
    first_request_s: float | None = None
    n_replies: int = 0
    in_burst: bool = False
    silent_from_s: dict[Silence, float] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    unplugged: bool = False


class FaultInjector:
    """Decides the fate of each packet; the same seed and the same traffic give the same fates.

    Each kind of fault draws from its own random numbers, so that adding one kind leaves the others' as they
    were. All times are those of `time.monotonic`, and given by the caller.

    Args:
        plan (`FaultPlan`): What to inject.
        seed (`int`): Seed of its random numbers.
    """

    def __init__(self, plan: FaultPlan, seed: int) -> None:
        self.counts = FaultCounts()
        self._seed = seed
        self._randoms: dict[str, random.Random] = {}
        self._run = _Run(plan, time.monotonic(), alerts=list(plan.alerts))

    @property
    def plan(self) -> FaultPlan:
        """The plan in force."""
        return self._run.plan

    @property
    def set_s(self) -> float:
        """Monotonic time at which the plan was set."""
        return self._run.set_s

    def set_plan(self, plan: FaultPlan) -> None:
        """Change the plan, from any thread; counts go on, what counts from the first request starts anew."""
        self._run = _Run(plan, time.monotonic(), alerts=list(plan.alerts))

    # --- packets

    def instruction(self, now: float) -> Fate:
        """What becomes of an instruction that came in at `now`; `late_ms` says how long the bus holds it."""
        run = self._run
        if run.first_request_s is None:
            run.first_request_s = now
        if self._happens("txdrop", run.plan.txdrop):
            fate = Fate(lost="txdrop")
            self.counts.add(fate)
            return fate
        return self.hold(Fate(), now)

    def replies(self, answer: Answer, now: float) -> list[Fate]:
        """What becomes of what the servos send on one instruction that they heard at `now`.

        In a FAST SYNC READ each servo waits for the one before; `chain` makes all sync reads so.

        Returns:
            `list[Fate]`: One for each reply.
        """
        linked = answer.fast or (answer.sync_read and self.plan.chain)
        fates: list[Fate] = []
        broken = False
        for reply in answer.replies:
            fate = Fate(lost="chain") if broken else self._reply(reply, now)
            broken = broken or (linked and fate.breaks_the_line)
            self.counts.add(fate)
            fates.append(fate)
        return fates

    def hold(self, fate: Fate, at_s: float) -> Fate:
        """`fate` of a packet that would pass at `at_s`, made late by the stalls it meets."""
        free_s = self._after_stalls(at_s)
        if free_s == at_s:
            return fate
        self.counts.stalled += 1
        return replace(fate, late_ms=fate.late_ms + (free_s - at_s) * 1000)

    # --- what is no packet

    def take_alerts(self) -> list[Alert]:
        """Hardware errors to raise now; each is returned once."""
        run = self._run
        alerts, run.alerts = run.alerts, []
        self.counts.alerts += len(alerts)
        return alerts

    def take_unplug(self, now: float) -> bool:
        """Whether the cable is to be pulled now; true once."""
        run = self._run
        if run.plan.unplug_s is None or run.first_request_s is None or run.unplugged:
            return False
        run.unplugged = now >= run.first_request_s + run.plan.unplug_s
        self.counts.unplugged += run.unplugged
        return run.unplugged

    # --- inside

    def _reply(self, reply: Reply, now: float) -> Fate:
        run, plan = self._run, self._run.plan
        run.n_replies += 1
        in_burst = self._burst()
        if self._is_silent(reply.id, now):
            return Fate(lost="silent")
        if plan.drop_every and run.n_replies % plan.drop_every == 0:
            return Fate(lost="drop")
        if self._happens("drop", plan.drop):
            return Fate(lost="drop")
        if in_burst:
            return Fate(lost="burst")
        return self._damage(reply, plan)

    def _damage(self, reply: Reply, plan: FaultPlan) -> Fate:
        """Faults that let something of the packet through; several may hit the same one."""
        keep, flip, noise = None, None, b""
        n = len(reply.raw)
        if self._happens("truncate", plan.truncate):
            keep = self._random("truncate").randrange(1, n)
        if self._happens("crc", plan.crc):
            source = self._random("crc")
            flip = (source.randrange(body_start(reply.raw, is_part=reply.is_part), n), source.randrange(8))
        if self._happens("noise", plan.noise):
            source = self._random("noise")
            noise = source.randbytes(source.randint(1, MAX_NOISE_BYTES))
        late_ms = plan.late_ms if self._happens("late", plan.late) else 0.0
        return Fate(late_ms=late_ms, flip=flip, keep=keep, noise=noise)

    def _burst(self) -> bool:
        """Move on the model of Gilbert and Elliott by one packet; whether the packet is lost."""
        run, burst = self._run, self._run.plan.burst
        if burst is None:
            return False
        draw = self._random("burst")
        if run.in_burst:
            run.in_burst = draw.random() >= burst.leave
        else:
            run.in_burst = draw.random() < burst.enter
        return run.in_burst and (burst.loss == 1 or draw.random() < burst.loss)

    def _is_silent(self, id_: int, now: float) -> bool:
        run = self._run
        silent = False
        for item in run.plan.silent:
            if item.id != id_:
                continue
            start = run.silent_from_s.get(item)
            if start is None:
                start = now if item.at_s is None else (run.first_request_s or now) + item.at_s
                run.silent_from_s[item] = start
            silent = silent or start <= now < start + item.ms / 1000
        return silent

    def _after_stalls(self, at_s: float) -> float:
        """`at_s`, or the end of the stalls that cover it."""
        run = self._run
        if run.first_request_s is None:
            return at_s
        for stall in sorted(run.plan.stalls, key=lambda stall: stall.at_s):
            start = run.first_request_s + stall.at_s
            if start <= at_s < start + stall.ms / 1000:
                at_s = start + stall.ms / 1000
        return at_s

    def _happens(self, kind: str, probability: float) -> bool:
        return probability > 0 and self._random(kind).random() < probability

    def _random(self, kind: str) -> random.Random:
        if kind not in self._randoms:
            self._randoms[kind] = random.Random(f"{self._seed}:{kind}")
        return self._randoms[kind]
