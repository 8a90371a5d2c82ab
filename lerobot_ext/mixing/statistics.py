# SPDX-License-Identifier: Apache-2.0
"""Statistics of a mix: of what is drawn, so that normalisation fits the batches that a policy sees.

Every frame of dataset `d` is drawn equally often, `w_d / N_d` of all draws. With those weights:

- mean and standard deviation are exact (law of total variance), minimum and maximum are the envelope;
- quantiles of numbers (states, actions, …) are exact too, computed from the frames themselves. Of more than
  `MOST_FRAMES` frames a dataset, that many at even distances are looked at for quantiles;
- quantiles of cameras are read off the mixture of the recorded distributions, each taken as linear between
  its recorded quantiles: LeRobot's mean of quantiles is far off where the datasets differ.

LeRobot's `aggregate_stats` weighs by recorded frames and averages quantiles; with `weights: by_frames` mean,
deviation, minimum and maximum agree with it.

A dataset whose recorded statistics do not describe its frames (somebody recomputed them, for relative actions
say) keeps the recorded ones for that feature; one log line says so.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Stats = dict[str, npt.NDArray[Any]]

QUANTILES: Final = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MOST_FRAMES: Final = 1_000_000
_NOT_NUMBERS: Final = ("image", "video", "string", "language")
_AGREES: Final = 1e-2  # standard deviations between a recorded mean or deviation and that of the frames
_QUANTILE: Final = re.compile(r"q(\d\d)")

logger = logging.getLogger(__name__)


@dataclass
class Source:
    """What one dataset gives to the statistics of one feature.

    Args:
        share (`float`): How often it is drawn.
        label (`str`): Its name, for messages.
        recorded (`Mapping`, *optional*): Its statistics as recorded.
        values (`np.ndarray`, *optional*): (N, …) its frames, where they are numbers.
        whole (`bool`): Whether all its episodes are drawn, so that both speak of the same frames.
    """

    share: float
    label: str
    recorded: Mapping[str, Any] | None
    values: Floats | None = None
    whole: bool = True


def mixed_stats(name: str, feature: Mapping[str, Any], sources: Sequence[Source]) -> Stats:
    """The statistics of a feature of a mix, in the shapes that LeRobot has.

    Args:
        name (`str`): The feature.
        feature (`Mapping`): Its description.
        sources (`Sequence[Source]`): One a dataset.

    Raises:
        ValueError: A dataset has neither statistics nor numbers.
    """
    mine = [_of_source(name, feature, source) for source in sources]
    weights = np.array([source.share for source in sources])
    # Where all datasets speak from their frames, the quantiles are those of all frames together.
    exact = all(values is not None for _, values in mine)
    stats = combine([stats for stats, _ in mine], weights)
    if exact:
        stats |= _quantiles_of_frames([values for _, values in mine if values is not None], weights)
    return stats


def is_numeric(feature: Mapping[str, Any]) -> bool:
    """Whether a feature is numbers that are kept in the dataset's columns."""
    return str(feature["dtype"]) not in _NOT_NUMBERS


def has_stats(feature: Mapping[str, Any]) -> bool:
    """Whether LeRobot keeps statistics of a feature."""
    return str(feature["dtype"]) not in ("string", "language")


def combine(stats: Sequence[Mapping[str, Any]], weights: Floats) -> Stats:
    """Statistics of a mixture of distributions from theirs.

    Args:
        stats (`Sequence[Mapping]`): (D,) `mean`, `std`, `min`, `max`, `count` and quantiles of each.
        weights (`np.ndarray`): (D,) that add up to 1.
    """
    parts = {
        key: np.stack([np.asarray(each[key], np.float64) for each in stats])
        for key in ("mean", "std", "min", "max")
    }
    means = parts["mean"]
    share = weights.reshape(-1, *[1] * (means.ndim - 1))  # (D, 1, …)
    mean = (share * means).sum(0)
    variance = (share * (parts["std"] ** 2 + (means - mean) ** 2)).sum(0)
    counts = [np.asarray(each["count"]).sum() for each in stats if "count" in each]
    combined: Stats = {
        "min": parts["min"].min(0),
        "max": parts["max"].max(0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([int(sum(counts))]),
    }
    shared = [key for key in stats[0] if _QUANTILE.fullmatch(key) and all(key in each for each in stats)]
    if shared:
        combined |= _quantiles_of_mixture(stats, weights, shared)
    return combined


def of_frames(values: Floats) -> Stats:
    """Statistics of frames that are drawn equally often, but for quantiles.

    Args:
        values (`np.ndarray`): (N, …).
    """
    flat = values.reshape(len(values), -1) if values.ndim == 1 else values
    return {
        "min": flat.min(0),
        "max": flat.max(0),
        "mean": flat.mean(0),
        "std": flat.std(0),
        "count": np.array([len(flat)]),
    }


def _of_source(name: str, feature: Mapping[str, Any], source: Source) -> tuple[Stats, Floats | None]:
    """A dataset's statistics, and its frames if they come from those."""
    recorded = {key: np.asarray(value) for key, value in (source.recorded or {}).items()}
    usable = {"mean", "std", "min", "max"} <= recorded.keys()
    if source.values is None or not len(source.values):
        if not usable:
            raise ValueError(
                f"dataset {source.label} of the mix has no statistics of `{name}`; "
                f"`lerobot-ext doctor --dataset.repo_id=… --fix` completes them"
            )
        return recorded, None
    seen = of_frames(source.values)
    if usable and not _describes(recorded, seen, source.whole):
        logger.warning(
            "lerobot_ext: the recorded statistics of `%s` of dataset %s are not those of its frames; they "
            "are taken as they are.",
            name,
            source.label,
        )
        return recorded, None
    return seen, source.values


def _describes(recorded: Mapping[str, Any], seen: Stats, whole: bool) -> bool:
    """Whether recorded statistics can be those of the frames: an envelope of them, and equal if all are."""
    # LeRobot computes in float32, where the deviation of numbers far from 0 comes out inexact.
    slack = _AGREES * np.asarray(seen["std"]) + 1e-3 * np.abs(np.asarray(seen["mean"])) + 1e-6
    try:
        inside = np.all(recorded["min"] <= seen["min"] + slack) and np.all(
            recorded["max"] >= seen["max"] - slack
        )
        if not whole:
            return bool(inside)
        equal = all(np.all(np.abs(recorded[key] - seen[key]) <= slack) for key in ("mean", "std"))
    except ValueError:
        return False  # of other shapes
    return bool(inside and equal)


def _quantiles_of_frames(values: Sequence[Floats], weights: Floats) -> Stats:
    """Exact quantiles of all frames, each weighing as often as it is drawn."""
    thinned = [_thinned(each.reshape(len(each), -1)) for each in values]
    together = np.concatenate(thinned)
    of_row = np.concatenate(
        [np.full(len(each), weight / len(each)) for each, weight in zip(thinned, weights, strict=True)]
    )
    shape = values[0].shape[1:] or (1,)
    found = np.quantile(together, list(QUANTILES.values()), axis=0, weights=of_row, method="inverted_cdf")
    return {key: found[index].reshape(shape) for index, key in enumerate(QUANTILES)}


def _thinned(values: Floats) -> Floats:
    if len(values) <= MOST_FRAMES:
        return values
    return values[np.linspace(0, len(values) - 1, MOST_FRAMES).round().astype(np.int64)]


def _quantiles_of_mixture(stats: Sequence[Mapping[str, Any]], weights: Floats, keys: Sequence[str]) -> Stats:
    """Quantiles of a mixture of distributions that are linear between their recorded quantiles."""
    keys = sorted(keys)
    probabilities = np.array([0.0, *(int(key[1:]) / 100 for key in keys), 1.0])
    shape = np.asarray(stats[0][keys[0]]).shape
    knots = np.stack(  # (D, K, elements)
        [
            np.stack([np.asarray(each[key], np.float64).ravel() for key in ("min", *keys, "max")])
            for each in stats
        ]
    )
    knots = np.maximum.accumulate(knots, axis=1)
    found = np.empty((len(keys), knots.shape[2]))
    for element in range(knots.shape[2]):
        grid = np.unique(knots[:, :, element])
        below = np.zeros(len(grid))
        for weight, own in zip(weights, knots[:, :, element], strict=True):
            below += weight * _cdf(grid, own, probabilities)
        found[:, element] = [_inverse(float(p), grid, below) for p in probabilities[1:-1]]
    return {key: found[index].reshape(shape) for index, key in enumerate(keys)}


def _cdf(at: Floats, knots: Floats, probabilities: Floats) -> Floats:
    """How much of a distribution lies at or below each of `at`."""
    last = np.append(knots[1:] != knots[:-1], True)  # of equal knots the highest: a step
    return np.asarray(np.interp(at, knots[last], probabilities[last], left=0.0, right=1.0))


def _inverse(probability: float, grid: Floats, below: Floats) -> float:
    """Where a distribution that is linear between `grid` reaches a probability."""
    index = int(np.searchsorted(below, probability - 1e-12))
    if index == 0 or below[index] == below[index - 1]:
        return float(grid[min(index, len(grid) - 1)])
    fraction = (probability - below[index - 1]) / (below[index] - below[index - 1])
    return float(grid[index - 1] + fraction * (grid[index] - grid[index - 1]))
