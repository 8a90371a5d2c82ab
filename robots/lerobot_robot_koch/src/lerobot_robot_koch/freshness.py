# SPDX-License-Identifier: Apache-2.0
"""The last known value of each motor: how old it is, and whether it may still stand in for a missing one."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

_FRESH_S: Final = 0.1


class Verdict(Enum):
    """What to do about motors that have not answered within the budget."""

    USE_LAST = "use the last values"
    KEEP_TRYING = "keep trying"
    GIVE_UP = "give up"


@dataclass
class _Last:
    value: int = 0
    time_s: float = float("-inf")
    tried_s: float = 0.0


class Freshness:
    """Decides between an old value, another try and an error.

    Age alone must not decide: after a pause of the whole program every value is old, and one request mends
    it. So the bus is given up only after `give_up_s` of trying without an answer.

    Args:
        max_stale_s (`float`): Oldest value that may be used, in seconds.
        give_up_s (`float`): Time of trying, in seconds, after which a motor counts as lost.
    """

    def __init__(self, max_stale_s: float, give_up_s: float) -> None:
        self.max_stale_s = max_stale_s
        self.give_up_s = give_up_s
        self._last: dict[int, _Last] = {}

    def received(self, id_: int, value: int, asked_s: float) -> None:
        """A motor answered a request that was first sent at `asked_s` (monotonic): its value is no older."""
        self._last[id_] = _Last(value, asked_s)

    def tried(self, ids: Iterable[int], seconds: float) -> None:
        """These motors were asked for `seconds` and did not answer."""
        for id_ in ids:
            self._last.setdefault(id_, _Last()).tried_s += seconds

    def verdict(self, missing: Iterable[int], now_s: float) -> Verdict:
        """What to do about `missing` at `now_s`."""
        last = [self._last.get(id_, _Last()) for id_ in missing]
        if all(now_s - entry.time_s <= self.max_stale_s for entry in last):
            return Verdict.USE_LAST
        if any(entry.tried_s >= self.give_up_s for entry in last):
            return Verdict.GIVE_UP
        return Verdict.KEEP_TRYING

    def too_old(self, ids: Iterable[int], now_s: float) -> list[int]:
        """Those of `ids` whose last value must not be used at `now_s`, even if it was received just now."""
        # A value that came within this time is fresh also where no old ones are wanted.
        limit_s = max(self.max_stale_s, _FRESH_S)
        return [id_ for id_ in ids if self.age_s(id_, now_s) > limit_s]

    def value(self, id_: int) -> int:
        """Last known value."""
        return self._last[id_].value

    def age_s(self, id_: int, now_s: float) -> float:
        """Age of the last known value, infinite when there is none."""
        return now_s - self._last.get(id_, _Last()).time_s

    def tried_s(self, ids: Iterable[int]) -> float:
        """Longest time for which one of `ids` has been asked without an answer."""
        return max((self._last.get(id_, _Last()).tried_s for id_ in ids), default=0.0)

    def forget(self) -> None:
        """Drop everything, as when what the values mean has changed."""
        self._last.clear()
