# SPDX-License-Identifier: Apache-2.0
"""The tasks `choose`, `either` and `around`: places beside a goal that the gripper may go to.

In `choose` there are two, left and right, and the instruction alone says which one counts: nothing that can
be seen tells, and the other one ends the episode. In `either` both count, and a demonstrator takes one or the
other by whim. `around` has a third before the goal; all count, and the goal itself ends the episode. Both
are for policies that can tell ways of doing a task apart. Between two equally frequent ways every place is a
median, so that one that regresses can end up with one of them; of the three of `around` the median of each
joint leads to the goal between them.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lerobot_env_koch.constants import REACH_TOLERANCE_M, TASK_DESCRIPTIONS

FloatArray = NDArray[np.float64]

LEFT, RIGHT, NEAR = -1, 1, 2
SIDE_M: Final = np.array([0.035, 0.0, 0.0])
"""From the goal to its right side."""
PLACES_M: Final = {LEFT: -SIDE_M, RIGHT: SIDE_M, NEAR: np.array([0.0, -0.035, 0.0])}
"""From the goal to each place beside it."""

SIDES_OF: Final[dict[str, tuple[int, ...]]] = {
    "choose": (LEFT, RIGHT),
    "either": (LEFT, RIGHT),
    "around": (LEFT, RIGHT, NEAR),
}
"""The places of each task; a demonstrator is sent to any of them, equally often."""
SIDE_TASKS: Final = tuple(SIDES_OF)

INSTRUCTIONS: Final = {
    LEFT: "Move the gripper to the left of the green goal.",
    RIGHT: "Move the gripper to the right of the green goal.",
}


class Sides:
    """The places beside a goal: those that count, and those that end the episode.

    Args:
        task (`str`): Of `SIDE_TASKS`.
        middle_m (`FloatArray`): (3,) the goal between them.
        side (`int`): The place that is meant, of `SIDES_OF[task]`.
    """

    def __init__(self, task: str, middle_m: FloatArray, side: int) -> None:
        places = {each: middle_m + PLACES_M[each] for each in SIDES_OF[task]}
        self.wanted: FloatArray = places[side]
        self.instruction = TASK_DESCRIPTIONS[task]
        self._good: list[FloatArray] = list(places.values())
        self._bad: list[FloatArray] = [middle_m] if task == "around" else []
        if task == "choose":
            self.instruction = INSTRUCTIONS[side]
            self._good, self._bad = [self.wanted], [middle_m - PLACES_M[side]]

    def missing_m(self, tip_m: FloatArray) -> float:
        """Way from the gripper's tip (3,) to the nearest place that counts, in m."""
        return _nearest_m(tip_m, self._good)

    def is_met(self, tip_m: FloatArray) -> bool:
        """Whether the tip (3,) is at a place that counts."""
        return self.missing_m(tip_m) <= REACH_TOLERANCE_M

    def is_missed(self, tip_m: FloatArray) -> bool:
        """Whether the tip (3,) is at a place that ends the episode."""
        return bool(self._bad) and _nearest_m(tip_m, self._bad) <= REACH_TOLERANCE_M


def _nearest_m(tip_m: FloatArray, places: list[FloatArray]) -> float:
    return min(float(np.linalg.norm(tip_m - place)) for place in places)
