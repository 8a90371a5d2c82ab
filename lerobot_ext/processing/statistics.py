# SPDX-License-Identifier: Apache-2.0
"""Refuses to build processors that would let a feature through unnormalised without a word.

LeRobot's normaliser passes a feature on as it is when its statistics are missing (`_apply_transform` in
`lerobot/processor/normalize_processor.py`): a policy then trains on raw degrees beside unit-scaled inputs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from lerobot.configs import NormalizationMode, PreTrainedConfig
from numpy.typing import NDArray

# What each mode reads.
_KEYS = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
    NormalizationMode.QUANTILES: ("q01", "q99"),
    NormalizationMode.QUANTILE10: ("q10", "q90"),
}


def require_statistics(
    config: PreTrainedConfig, dataset_stats: Mapping[str, Mapping[str, Any]] | None
) -> None:
    """Raise if a feature that `config` normalises has no statistics; call it where processors are made.

    Args:
        config (`PreTrainedConfig`): Features and `normalization_mapping`.
        dataset_stats (`Mapping`, *optional*): LeRobot's statistics. None passes: LeRobot gives none where it
            builds a policy from an environment, or loads saved processors right after.

    Raises:
        ValueError: A feature, or one of the numbers its mode needs, is missing.
    """
    if dataset_stats is None:
        return
    features = {**(config.input_features or {}), **(config.output_features or {})}
    missing = unusable_statistics(features, config.normalization_mapping, dataset_stats, finite=False)
    if missing:
        raise ValueError(
            f"The dataset has no statistics of {'; '.join(missing)}: they would go unnormalised. It has "
            f"those of {sorted(dataset_stats)}. Recompute the dataset's statistics, rename the feature with "
            "`--rename_map`, or set its type to IDENTITY in `normalization_mapping`."
        )


def unusable_statistics(
    features: Mapping[str, Any],
    modes: Mapping[Any, NormalizationMode],
    statistics: Mapping[str, Mapping[str, Any]],
    *,
    finite: bool = True,
) -> list[str]:
    """Each feature that cannot be normalised, with the reason: ``"`action` (std for MEAN_STD)"``.

    Args:
        features (`Mapping[str, PolicyFeature]`): What is to be normalised.
        modes (`Mapping`): The mode of each type, by `FeatureType` or its name; others are IDENTITY.
        statistics (`Mapping`): Numbers, arrays or tensors by feature and name.
        finite (`bool`, *optional*, defaults to `True`): Look into the numbers too: NaN, infinity, and a range
            or deviation of zero, by which the normaliser divides.
    """
    by_name = {getattr(kind, "value", kind): mode for kind, mode in modes.items()}
    wrong = []
    for name, feature in features.items():
        mode = by_name.get(feature.type.value, NormalizationMode.IDENTITY)
        needed, there = _KEYS.get(mode, ()), statistics.get(name, {})
        absent = [key for key in needed if key not in there]
        if absent:
            wrong.append(f"`{name}` ({', '.join(absent)} for {mode.value})")
        elif needed and finite and (fault := _numerical_fault(needed, there)):
            wrong.append(f"`{name}` ({fault})")
    return wrong


def _numerical_fault(needed: tuple[str, ...], statistics: Mapping[str, Any]) -> str:
    """What is wrong with a feature's two numbers; empty if nothing."""
    first, second = (np.asarray(statistics[key], dtype=np.float64) for key in needed)
    for key, numbers in zip(needed, (first, second), strict=True):
        bad = np.flatnonzero(~np.isfinite(numbers))
        if bad.size:
            return f"{key} is NaN or infinite at {_places(bad)}"
    spread = second if needed[1] == "std" else second - first
    flat = np.flatnonzero(spread <= 0)
    if not flat.size:
        return ""
    what = "std is" if needed[1] == "std" else f"{needed[1]} - {needed[0]} is"
    return f"{what} 0 or less at {_places(flat)}: it never changed"


def _places(indices: NDArray[Any]) -> str:
    return ", ".join(str(index) for index in indices[:8].tolist()) + (", …" if indices.size > 8 else "")
