# SPDX-License-Identifier: Apache-2.0
"""What the configurations of policies that learn from logs have in common: rules, no fields.

The fields stay with each policy, whose defaults and descriptions differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .batches import ChunkRules
from .routing import GroupedAdamWConfig

if TYPE_CHECKING:
    from lerobot.configs.policies import PreTrainedConfig as _Config
else:
    _Config = object  # LeRobot's class is a base of each configuration; a dataclass, which this must not be


class LearnsFromLogsConfig(_Config):
    """A base of policy configurations, before LeRobot's `PreTrainedConfig`; it brings no field."""

    if TYPE_CHECKING:
        chunk_size: int
        n_action_steps: int
        discount: float
        reward_source: str
        terminal_mode: str
        image_size: tuple[int, int]
        optimizer_lr: float
        optimizer_weight_decay: float

        @property
        def learns_values(self) -> bool:
            """Whether critics are learned, so that rewards and the next observation are needed."""

    @property
    def chunk_rules(self) -> ChunkRules:
        """How logs become targets."""
        return ChunkRules(self.chunk_size, self.discount, self.reward_source, self.terminal_mode)

    @property
    def reward_delta_indices(self) -> list[int] | None:
        """The rewards of the chunk, where values are learned from the column."""
        return list(range(self.chunk_size)) if self.learns_values else None

    def get_optimizer_preset(self) -> GroupedAdamWConfig:
        """AdamW whose groups are clipped one by one."""
        return GroupedAdamWConfig(lr=self.optimizer_lr, weight_decay=self.optimizer_weight_decay)

    def get_scheduler_preset(self) -> None:
        """Constant learning rates: the values move as long as the policy does."""
        return None

    def validate_features(self) -> None:
        """Check that the dataset offers what the policy needs.

        Raises:
            ValueError: If the action is missing or no vector, there is nothing to observe, or an image is not
                (3, H, W).
        """
        action = self.action_feature
        if action is None or len(action.shape) != 1:
            given = "missing" if action is None else f"of shape {tuple(action.shape)}"
            raise ValueError(f"`action` is {given}; the policy needs a vector, (width,).")
        vectors = [feature for feature in (self.robot_state_feature, self.env_state_feature) if feature]
        if not vectors and not self.image_features:
            raise ValueError(
                "`observation.state`, `observation.environment_state` and images are all missing from the "
                "policy's features; record a dataset with one of them, or map a column with `--rename_map`."
            )
        if any(len(feature.shape) != 1 for feature in vectors):
            raise ValueError(
                "`observation.state` and `observation.environment_state` must be vectors, (width,)."
            )
        for name, feature in self.image_features.items():
            if len(feature.shape) != 3 or feature.shape[0] != 3:
                raise ValueError(
                    f"`{name}` has shape {tuple(feature.shape)}; the policy reads colour images (3, h, w). "
                    "Leave it out of `--policy.input_features`."
                )

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"`{name}` ({getattr(self, name)}) {rule}.")

    def _require_choices(self, choices: Mapping[str, Iterable[str]]) -> None:
        """Refuse a field whose value is none of its choices."""
        for name, values in choices.items():
            value = getattr(self, name)
            if value not in values:
                raise ValueError(f"`{name}` ({value!r}) is unknown; choose one of {', '.join(values)}.")

    def _require_sizes(self) -> None:
        """Refuse chunks and images that cannot be, and rules of the logs that have no meaning."""
        if self.n_action_steps > self.chunk_size:
            raise ValueError(
                f"`n_action_steps` ({self.n_action_steps}) must not exceed `chunk_size` ({self.chunk_size}); "
                "lower it or train with longer chunks."
            )
        if len(self.image_size) != 2 or min(self.image_size) < 32:
            raise ValueError(
                f"`image_size` ({self.image_size}) must be (height, width), both at least 32 pixels."
            )
        _ = self.chunk_rules
