# SPDX-License-Identifier: Apache-2.0
"""The tasks `choose` and `either`: two places, left and right of a goal, that the gripper may go to.

In `choose` the instruction alone says which one counts: nothing that can be seen tells, and the other one
ends the episode. In `either` both count, and a demonstrator takes one or the other by whim: it is there for
policies that can tell two ways of doing a task apart, where their mean leads to neither.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lerobot_env_koch.constants import REACH_TOLERANCE_M

FloatArray = NDArray[np.float64]

SIDE_TASKS: Final = ("choose", "either")
SIDE_M: Final = np.array([0.035, 0.0, 0.0])
"""From the goal to its right side."""

INSTRUCTIONS: Final = {
    -1: "Move the gripper to the left of the green goal.",
    1: "Move the gripper to the right of the green goal.",
}


class Sides:
    """Two places beside a goal.

    Args:
        middle_m (`FloatArray`): (3,) the goal between them.
        side (`int`): -1 left or 1 right: the one that is meant.
        either (`bool`): Whether the other one counts as well.
    """

    def __init__(self, middle_m: FloatArray, side: int, either: bool) -> None:
        self.wanted: FloatArray = middle_m + side * SIDE_M
        self.other: FloatArray = middle_m - side * SIDE_M
        self.either = either
        self.instruction = INSTRUCTIONS[side]

    def missing_m(self, tip_m: FloatArray) -> float:
        """Way from the gripper's tip (3,) to the nearest place that counts, in m."""
        to_wanted, to_other = (float(np.linalg.norm(tip_m - place)) for place in (self.wanted, self.other))
        return min(to_wanted, to_other) if self.either else to_wanted

    def is_met(self, tip_m: FloatArray) -> bool:
        """Whether the tip (3,) is at a place that counts."""
        return self.missing_m(tip_m) <= REACH_TOLERANCE_M

    def is_missed(self, tip_m: FloatArray) -> bool:
        """Whether the tip (3,) is at the place that does not count."""
        return not self.either and float(np.linalg.norm(tip_m - self.other)) <= REACH_TOLERANCE_M
