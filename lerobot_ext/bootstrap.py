# SPDX-License-Identifier: Apache-2.0
"""Intervals for figures that come from several trainings and several episodes of each.

Frames of one episode resemble each other, and so do the results of one training. The bootstrap therefore
draws trainings first and then episodes (Davison and Hinkley, "Bootstrap Methods", 1997, section 3.8). With
three trainings the first stage is coarse; the figures of each are given beside the interval.
Legend: `N` trainings, `E` episodes, `R` draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Chosen = tuple[NDArray[np.int64], NDArray[np.int64]]

DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A figure, its 95 % interval, and what each training gives.

    Args:
        value (`float`): The figure.
        low (`float`), high (`float`): The interval.
        each (`tuple[float, ...]`): Of each training.
    """

    value: float
    low: float
    high: float
    each: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"each": list(self.each)}


def draws(trainings: int, episodes: int, repeats: int = DRAWS, seed: int = 0) -> Chosen:
    """Indices (R, N, 1) of trainings and (R, N, E) of episodes, each drawn with replacement."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(trainings, size=(repeats, trainings, 1))
    return chosen, rng.integers(episodes, size=(repeats, trainings, episodes))


def ratio_of_sums(above: Floats, below: Floats, repeats: int = DRAWS) -> Interval:
    """Interval of `sum(above) / sum(below)`.

    Args:
        above (`Floats`): (N, E) sums over the frames of each episode.
        below (`Floats`): (N, E) likewise.
        repeats (`int`, *optional*, defaults to `2000`): Draws.

    Raises:
        ValueError: Of different shapes, or without an episode.
    """
    if above.shape != below.shape or above.ndim != 2 or not above.size:
        raise ValueError(
            f"need two arrays of one shape (trainings, episodes), got {above.shape}, {below.shape}."
        )
    rows = draws(above.shape[0], above.shape[1], repeats)
    drawn = above[rows].sum((1, 2)) / below[rows].sum((1, 2))
    low, high = np.percentile(drawn, [2.5, 97.5])
    each = tuple(float(a / b) for a, b in zip(above.sum(1), below.sum(1), strict=True))
    return Interval(float(above.sum() / below.sum()), float(low), float(high), each)


def difference(ours: Floats, theirs: Floats, repeats: int = DRAWS) -> Interval:
    """Interval of the mean of `ours - theirs`, (N, E) each: the same episodes for both, paired."""
    return ratio_of_sums(ours - theirs, np.ones_like(ours), repeats)


def statistic(
    values: list[list[Any]], of: Callable[[list[Any]], float], repeats: int = DRAWS, seed: int = 0
) -> Interval:
    """Interval of any figure of many episodes.

    Args:
        values (`list[list]`): For each training, something for each episode.
        of (`Callable`): Computes the figure from such somethings, of any number of episodes.
        repeats (`int`, *optional*, defaults to `2000`): Draws.
        seed (`int`, *optional*, defaults to `0`): Of the draws.
    """
    trainings, episodes = draws(len(values), min(len(row) for row in values), repeats, seed)
    found = [
        of([values[n][e] for n, row in zip(who[:, 0], which, strict=True) for e in row])
        for who, which in zip(trainings, episodes, strict=True)
    ]
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(
        of([entry for row in values for entry in row]),
        float(low),
        float(high),
        tuple(of(row) for row in values),
    )


def auroc(negative: Floats, positive: Floats) -> float:
    """Chance that a positive scores higher than a negative (Mann-Whitney), ties counted half."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    tied = np.searchsorted(ordered, positive, side="right") - below
    return float((below + 0.5 * tied).mean() / len(negative))
