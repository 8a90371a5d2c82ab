# SPDX-License-Identifier: Apache-2.0
"""The task `tour`: left, middle, right, middle, left, with a rest in the middle.

It is there for policies that remember. Where the gripper goes next cannot be told from where it is: between
two stops its speed tells, and at rest in the middle only where it came from, more than `REST_S` ago.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lerobot_env_koch.constants import REACH_TOLERANCE_M

FloatArray = NDArray[np.float64]

SIDE_M: Final = np.array([0.035, 0.0, 0.0])
"""From the middle to the right stop."""

REST_S: Final = 0.35
"""How long the gripper has to rest in the middle: 10 frames."""

GUIDE_TOLERANCE_M: Final = 0.006
GUIDE_REST_S: Final = 0.45
"""A demonstrator comes closer and rests longer than is asked for: who learns from it may err a little."""


class Tour:
    """How far a tour has come.

    Args:
        middle_m (`FloatArray`): (3,) its middle stop.
        tolerance_m (`float`, *optional*, defaults to `0.015`): How near counts as there.
        rest_s (`float`, *optional*, defaults to `0.35`): How long the gripper has to rest in the middle.
    """

    def __init__(
        self, middle_m: FloatArray, tolerance_m: float = REACH_TOLERANCE_M, rest_s: float = REST_S
    ) -> None:
        self.tolerance_m = tolerance_m
        self.rest_s = rest_s
        left, right = middle_m - SIDE_M, middle_m + SIDE_M
        self.stops = (left, middle_m, right, middle_m, left)
        self.done = 0
        self._rested_s = 0.0

    @property
    def is_over(self) -> bool:
        """Whether all stops were visited in order."""
        return self.done == len(self.stops)

    @property
    def next_stop(self) -> FloatArray:
        """(3,) where to go now; the last stop when the tour is over."""
        return self.stops[min(self.done, len(self.stops) - 1)]

    def follow(self, tip_m: FloatArray, dt_s: float) -> None:
        """Take note of where the gripper's tip (3,) has been for the last `dt_s`."""
        if self.is_over or float(np.linalg.norm(tip_m - self.next_stop)) > self.tolerance_m:
            self._rested_s = 0.0
            return
        self._rested_s += dt_s
        # The middle is every second stop.
        if self.done % 2 == 0 or self._rested_s >= self.rest_s:
            self.done += 1
            self._rested_s = 0.0

    def missing_m(self, tip_m: FloatArray) -> float:
        """Way that is left, in m."""
        if self.is_over:
            return 0.0
        rest = (len(self.stops) - 1 - self.done) * float(np.linalg.norm(SIDE_M))
        return float(np.linalg.norm(tip_m - self.next_stop)) + rest
