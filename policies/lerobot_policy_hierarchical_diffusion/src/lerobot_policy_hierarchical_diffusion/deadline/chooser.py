# SPDX-License-Identifier: Apache-2.0
"""Choose what to run so that a plan is ready in time.

Before a plan: of all choices whose expected cost fits the budget, the one with the smallest error on held-out
demonstrations; without measured errors the one with the most layers, then the most steps. While it runs: no
more steps than the time left allows. After it: the ratio of measured and expected cost is averaged, so that a
machine that has become slower or hotter is noticed within a few plans.
"""

from __future__ import annotations

from collections.abc import Iterable

from .table import Choice, LatencyTable

_MEMORY = 0.8
"""Share of the old correction that a plan leaves."""
_MIN_CORRECTION, _MAX_CORRECTION = 1.0, 10.0
"""A p95 table is never too pessimistic to be believed; more than tenfold means another machine."""
RESERVE = 0.1
"""Share of the budget that is kept for what follows the plan: unnormalising and handing over an action."""


class Chooser:
    """Chooses layers and steps plan by plan.

    Args:
        table (`LatencyTable`): Costs of this machine, errors of this policy.
        budget_ms (`float`): Time for a plan.
    """

    def __init__(self, table: LatencyTable, budget_ms: float) -> None:
        self.table = table
        self.budget_ms = budget_ms
        self.correction = 1.0

    def expected_ms(self, choice: Choice) -> float:
        """What a choice is expected to take now."""
        return self.correction * self.table.costs.of(choice)

    def fits(self, choice: Choice, spent_ms: float = 0.0) -> bool:
        """Whether a choice is expected to be ready in time, the reserve left."""
        return self.expected_ms(choice) <= (1 - RESERVE) * self.budget_ms - spent_ms

    def choose(self, allowed: Iterable[Choice], spent_ms: float = 0.0) -> Choice:
        """The best of the choices that fit the budget; the cheapest one if none does.

        Args:
            allowed (`Iterable[Choice]`): What the policy can do now; at least one.
            spent_ms (`float`, *optional*, defaults to `0.0`): Share of the budget that is gone already.
        """
        candidates = list(allowed)
        fitting = [choice for choice in candidates if self.fits(choice, spent_ms)]
        if not fitting:
            return min(candidates, key=self.table.costs.of)
        errors = self.table.errors
        if all(choice in errors for choice in fitting):
            return min(fitting, key=lambda choice: (errors[choice], self.table.costs.of(choice)))
        return max(fitting, key=lambda choice: (choice.layers, choice.steps))

    def steps_in_time(self, choice: Choice, elapsed_ms: float, fewest: int) -> int:
        """The chosen number of steps, or fewer when too much time is gone already.

        Args:
            choice (`Choice`): What was chosen.
            elapsed_ms (`float`): Time since the plan began.
            fewest (`int`): 0 with a draft, 1 without.
        """
        left = (1 - RESERVE) * self.budget_ms - elapsed_ms - self.table.costs.condition_ms
        in_time = int(left // max(self.correction * self.table.costs.step_ms, 1e-6))
        return max(fewest, min(choice.steps, in_time))

    def learn(self, done: Choice, took_ms: float) -> None:
        """Take in what a plan took."""
        ratio = took_ms / max(self.table.costs.of(done), 1e-6)
        # One long pause of the operating system is not the machine's speed.
        ratio = min(ratio, 2 * self.correction)
        mixed = _MEMORY * self.correction + (1 - _MEMORY) * ratio
        self.correction = min(max(mixed, _MIN_CORRECTION), _MAX_CORRECTION)
