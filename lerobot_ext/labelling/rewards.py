# SPDX-License-Identifier: Apache-2.0
"""Rewards and returns of an episode, as functions of its length and of whether it succeeded."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def sparse_success(length: int, *, success: bool) -> Floats:
    """(length,) 1 at the last step of a successful episode, 0 everywhere else."""
    rewards = np.zeros(length, np.float32)
    rewards[-1] = float(success)
    return rewards


def step_cost(length: int, *, success: bool) -> Floats:
    """(length,) -1 a step, 0 at the last step of a successful episode: the faster the better."""
    rewards = np.full(length, -1.0, np.float32)
    rewards[-1] = 0.0 if success else -1.0
    return rewards


def at_the_end(length: int, reward: float) -> Floats:
    """(length,) one number for a whole episode, at its last step."""
    rewards = np.zeros(length, np.float32)
    rewards[-1] = reward
    return rewards


def returns(rewards: npt.NDArray[np.floating], discount: float) -> Floats:
    """(T,) the discounted sum of rewards from each step to the end of the episode.

    Args:
        rewards (`np.ndarray`): (T,) of one episode.
        discount (`float`): In [0, 1].
    """
    total = 0.0
    found = np.empty(len(rewards), np.float64)
    for step in range(len(rewards) - 1, -1, -1):
        total = float(rewards[step]) + discount * total
        found[step] = total
    return found.astype(np.float32)


def success_flags(length: int, *, success: bool) -> npt.NDArray[np.bool_]:
    """(length,) true at the step that ends a successful episode."""
    flags = np.zeros(length, bool)
    flags[-1] = success
    return flags
