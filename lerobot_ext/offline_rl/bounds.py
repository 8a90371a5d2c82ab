# SPDX-License-Identifier: Apache-2.0
"""The range in which the values of a dataset's states can lie.

A bootstrapped critic may drift to values that no reward supports; clamping its targets to what the rewards
allow stops that without changing a correct critic.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class ValueBounds(NamedTuple):
    """Smallest and largest value, and the unit in which values are near 1.

    Attributes:
        low (`float`): Smallest value.
        high (`float`): Largest value.
    """

    low: float
    high: float

    @property
    def scale(self) -> float:
        """The larger of both magnitudes; 1 where all rewards are zero."""
        return max(abs(self.low), abs(self.high)) or 1.0


def returns_to_go(rewards: Floats, discount: float) -> Floats:
    """Discounted return from each frame of an episode (T,) to its end; (T,)."""
    returns = np.zeros(len(rewards))
    following = 0.0
    for frame in range(len(rewards) - 1, -1, -1):
        following = float(rewards[frame]) + discount * following
        returns[frame] = following
    return returns


def value_bounds(episodes: list[Floats], terminal: NDArray[np.bool_], discount: float) -> ValueBounds:
    """Bounds from the rewards of a dataset.

    No state is worth less than the worst reward for ever, or than the worst return seen where every episode
    that goes badly ended in a terminal state; and none more than the best return seen, or the best reward for
    ever where an episode was cut off while being rewarded. A cut-off episode's rewards go on unseen, so its
    returns alone bound nothing.

    Args:
        episodes (`list[Floats]`): Rewards (T,) of each episode.
        terminal (`NDArray`): (episodes,) bool, whether it ended in a terminal state.
        discount (`float`): γ in [0, 1].

    Returns:
        `ValueBounds`: With 0 inside, as the value of what follows a terminal state.

    Raises:
        ValueError: If there is no episode, or with γ = 1 episodes that were cut off have no bound.
    """
    if not episodes:
        raise ValueError("the dataset has no episode, so its values have no bounds.")
    returns = [returns_to_go(rewards, discount) for rewards in episodes]
    low = min(0.0, *(float(found.min()) for found in returns))
    high = max(0.0, *(float(found.max()) for found in returns))
    cut_off = [rewards for rewards, ended in zip(episodes, terminal, strict=True) if not ended]
    if cut_off:
        worst = min(0.0, *(float(rewards.min()) for rewards in cut_off))
        best = max(0.0, *(float(rewards.max()) for rewards in cut_off))
        low, high = min(low, _for_ever(worst, discount)), max(high, _for_ever(best, discount))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            "with `discount` 1 the rewards of episodes that were cut off add up without bound; use a "
            "discount below 1, or a terminal mode that calls their ends terminal."
        )
    return ValueBounds(low, high)


def bounds_of_rewards(smallest: float, largest: float, discount: float) -> ValueBounds:
    """Bounds from the range of single rewards alone: `reward / (1 - γ)`; `discount` below 1."""
    return ValueBounds(_for_ever(min(0.0, smallest), discount), _for_ever(max(0.0, largest), discount))


def _for_ever(reward: float, discount: float) -> float:
    if reward == 0.0:
        return 0.0
    return reward / (1.0 - discount) if discount < 1.0 else math.copysign(math.inf, reward)
