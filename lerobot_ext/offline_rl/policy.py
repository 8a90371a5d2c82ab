# SPDX-License-Identifier: Apache-2.0
"""What policies that learn from logs have in common: whose rewards and ends their batches have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from .batches import ChunkLabels
from .labels import Episodes, read_episodes

if TYPE_CHECKING:
    from lerobot.policies.pretrained import PreTrainedPolicy as _Policy
else:
    _Policy = object  # LeRobot's class is a base of each policy; it asks every subclass for a configuration


class LearnsFromLogs(_Policy):
    """A base of policies, before LeRobot's `PreTrainedPolicy`.

    A policy calls `_read_labels` when it is built; `labels` then makes targets of its batches.
    """

    labels: ChunkLabels

    def _read_labels(self, dataset_stats: dict[str, dict[str, Any]] | None, dataset_meta: Any | None) -> None:
        """Make `labels`, of the dataset that is trained on where there is one.

        Raises:
            ValueError: The dataset lacks a column that `reward_source` or `terminal_mode` names.
        """
        config: Any = self.config
        self._dataset_stats = dataset_stats
        self._reads_labels = config.learns_values or config.extraction == "filtered_bc"
        known = self._reads_labels and dataset_meta is not None
        self._episodes_of_dataset = read_episodes(dataset_meta) if known else None
        self.labels = ChunkLabels(config.chunk_rules)
        self.set_episodes(self._episodes_of_dataset)

    def set_episodes(self, episodes: Episodes | None) -> None:
        """Take rewards, ends and returns from these episodes, as those of the dataset in training."""
        if self._reads_labels:
            self.labels.set_dataset(episodes, self._dataset_stats)

    @classmethod
    def _load_as_safetensor(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Self:
        """Load weights; a dataset that is trained on sets the bounds of the values anew."""
        loaded: Any = super()._load_as_safetensor(model, model_file, map_location, strict)
        loaded.set_episodes(loaded._episodes_of_dataset)
        return loaded  # type: ignore[no-any-return]
