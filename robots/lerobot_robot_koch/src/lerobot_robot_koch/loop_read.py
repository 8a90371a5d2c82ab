# SPDX-License-Identifier: Apache-2.0
"""Reading the joints in the control loop: within a budget, with old values in place of missing ones."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lerobot_robot_koch.config_bus import BusFields
from lerobot_robot_koch.freshness import Freshness, Verdict
from lerobot_robot_koch.link import Exchange, Link
from lerobot_robot_koch.round_trip import FAST

logger = logging.getLogger(__name__)

_LEAST_S: Final = 0.001
_LAST_TRIES: Final = 3
"""Patient requests, at least, before the bus counts as lost: what came before may have been too hasty."""
_MAX_FAST_FAILURES: Final = 20


class MotorsLostError(Exception):
    """Motors that did not answer in spite of active trying.

    Args:
        ids (`list[int]`): Who.
        n_tries (`int`): Requests in the last read.
        since_s (`float`): Monotonic time since when they have been asked, without pauses between reads.
    """

    def __init__(self, ids: list[int], n_tries: int, since_s: float) -> None:
        super().__init__(f"no answer from {ids}")
        self.ids = ids
        self.n_tries = n_tries
        self.since_s = since_s


@dataclass(frozen=True)
class LoopValues:
    """What one read of the joints gave.

    Args:
        values (`dict[int, int]`): Raw value of each motor.
        ages_s (`dict[int, float]`): Age, in seconds, of those that are old ones.
        n_tries (`int`): Requests it took.
    """

    values: dict[int, int]
    ages_s: dict[int, float]
    n_tries: int


class LoopReader:
    """Reads joint values so that the loop keeps its rate on a bad line.

    Args:
        link (`Link`): The line.
        fields (`BusFields`): `read_budget_ms`, `max_stale_ms` and `give_up_ms`.
        check (`Callable`): Called with each exchange after a request, to look at what motors report.

    Attributes:
        uses_fast_sync_read (`bool`): Whether the first request of a read is a Fast Sync Read; switched off
            when that keeps failing.
    """

    def __init__(self, link: Link, fields: BusFields, check: Callable[[Exchange], None]) -> None:
        self.uses_fast_sync_read = False
        self._link = link
        self._budget_s = fields.read_budget_ms / 1000
        self._freshness = Freshness(fields.max_stale_ms / 1000, fields.give_up_ms / 1000)
        self._check = check
        self._n_fast_failures = 0

    def forget(self) -> None:
        """Drop the last known values, as when what a position means has changed."""
        self._freshness.forget()

    def read(self, ids: list[int], address: int, length: int) -> LoopValues:
        """Read `length` bytes from `address` of each motor.

        Raises:
            MotorsLostError: A motor has not answered `give_up_ms` of active trying, and its last value is too
                old.
        """
        fast = self.uses_fast_sync_read and len(ids) > 1
        exchange = self._link.read(ids, address, length, fast=fast)
        self._ask_within_budget(exchange, length, fast)
        n_anew = 0
        while True:
            self._ask_until_usable(exchange, length)
            now_s = time.monotonic()
            too_old = self._freshness.too_old(ids, now_s)
            if not too_old:
                break
            # Those that answered at once have grown too old while another one was waited for.
            if n_anew == _LAST_TRIES:
                raise MotorsLostError(too_old, exchange.n_tries, exchange.started_s)
            n_anew += 1
            exchange = self._link.read(ids, address, length)
            self._ask(exchange, length, time.monotonic() + self._budget_s, patient=True)
        return LoopValues(
            {id_: self._freshness.value(id_) for id_ in ids},
            {id_: self._freshness.age_s(id_, now_s) for id_ in exchange.missing},
            exchange.n_tries + n_anew,
        )

    def _ask_within_budget(self, exchange: Exchange, length: int, fast: bool) -> None:
        """Ask those that are missing, again and again, until all have answered or the budget is spent."""
        # An adapter that is too slow for the budget still gets the time for two answers.
        mean_s = self._link.round_trip.mean(FAST if fast else len(exchange.missing)) or 0.0
        budget_s = max(self._budget_s, 2.5 * mean_s)
        # Half of it at most for one request, so that a lost first reply leaves time for a second one.
        share_s = max(budget_s / 2, 1.5 * mean_s)
        now_s = time.monotonic()
        until_s = now_s + budget_s
        while exchange.missing and now_s < until_s:
            self._ask(exchange, length, now_s + max(min(share_s, until_s - now_s), _LEAST_S))
            if fast and exchange.n_tries == 1:
                self._judge_fast_sync_read(bool(exchange.replies))
            now_s = time.monotonic()

    def _ask_until_usable(self, exchange: Exchange, length: int) -> None:
        """Ask on, patiently, while what is missing cannot be replaced by old values."""
        n_patient = 0
        while exchange.missing:
            verdict = self._freshness.verdict(exchange.missing, time.monotonic())
            if verdict is Verdict.USE_LAST:
                return
            if verdict is Verdict.GIVE_UP and n_patient >= _LAST_TRIES:
                tried_s = self._freshness.tried_s(exchange.missing)
                raise MotorsLostError(exchange.missing, exchange.n_tries, time.monotonic() - tried_s)
            self._ask(exchange, length, float("inf"), patient=True)
            n_patient += 1

    def _ask(self, exchange: Exchange, length: int, deadline_s: float, *, patient: bool = False) -> None:
        exchange.run_once(deadline_s, patient=patient)
        self._check(exchange)
        for id_, reply in exchange.replies.items():
            self._freshness.received(id_, int.from_bytes(reply.data[:length], "little"), exchange.started_s)
        self._freshness.tried(exchange.missing, exchange.waited_s)

    def _judge_fast_sync_read(self, heard: bool) -> None:
        """Leave Fast Sync Read when it keeps failing although the motors answer otherwise."""
        self._n_fast_failures = 0 if heard else self._n_fast_failures + 1
        if self._n_fast_failures >= _MAX_FAST_FAILURES:
            self.uses_fast_sync_read = False
            logger.warning(
                "%s: Fast Sync Read keeps failing; going on without it.", self._link.port.port_name
            )
