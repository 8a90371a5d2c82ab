# SPDX-License-Identifier: Apache-2.0
"""Refuses to build processors that would let a feature through unnormalised without a word.

LeRobot's normaliser passes a feature on as it is when its statistics are missing (`_apply_transform` in
`lerobot/processor/normalize_processor.py`): a policy then trains on raw degrees beside unit-scaled inputs.
"""

from collections.abc import Mapping
from typing import Any

from lerobot.configs import NormalizationMode, PreTrainedConfig

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
    modes = {getattr(kind, "value", kind): mode for kind, mode in config.normalization_mapping.items()}
    missing = []
    for name, feature in {**(config.input_features or {}), **(config.output_features or {})}.items():
        mode = modes.get(feature.type.value, NormalizationMode.IDENTITY)
        absent = [key for key in _KEYS.get(mode, ()) if key not in dataset_stats.get(name, {})]
        if absent:
            missing.append(f"`{name}` ({', '.join(absent)} for {mode.value})")
    if missing:
        raise ValueError(
            f"The dataset has no statistics of {'; '.join(missing)}: they would go unnormalised. It has "
            f"those of {sorted(dataset_stats)}. Recompute the dataset's statistics, rename the feature with "
            "`--rename_map`, or set its type to IDENTITY in `normalization_mapping`."
        )
