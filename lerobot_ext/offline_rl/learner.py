# SPDX-License-Identifier: Apache-2.0
"""What a policy must offer so that `lerobot-ext train-online` can go on training it.

Whoever learns from logs by the parts of this package has it already; nothing here knows which policy it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from .batches import ChunkRules
from .labels import Episodes

EXPLORE = "sample_action_chunk"
"""Optional method: a chunk as the policy explores, (B, H, A); without it `predict_action_chunk` explores."""

_METHODS = ("forward", "update", "predict_action_chunk", "reset", "get_optim_params", "set_episodes")


class OnlineConfig(Protocol):
    """Of its configuration, besides LeRobot's `PreTrainedConfig`."""

    n_action_steps: int

    @property
    def chunk_rules(self) -> ChunkRules:
        """How logs become targets."""
        ...

    @property
    def learns_values(self) -> bool:
        """Whether it learns from rewards; what only imitates would imitate its own failures."""
        ...


class OnlineLearner(Protocol):
    """Of the policy, besides LeRobot's `PreTrainedPolicy`."""

    config: OnlineConfig

    def set_episodes(self, episodes: Episodes | None) -> None:
        """Take rewards, ends and bounds of values from these episodes, numbered as in batches to come."""
        ...

    def update(self) -> None:
        """Move targets and counters; called after each optimizer step."""
        ...

    def predict_action_chunk(self, batch: dict[str, Any]) -> Tensor:
        """(B, H, A) normalised actions."""
        ...


def why_not(policy: Any) -> str:
    """What keeps a policy from learning online; empty if nothing does."""
    kind = getattr(policy, "name", type(policy).__name__)
    missing = [name for name in _METHODS if not callable(getattr(policy, name, None))]
    missing += [f"config.{name}" for name in ("chunk_rules", "learns_values", "n_action_steps")
                if not hasattr(policy.config, name)]  # fmt: skip
    if missing:
        return f"{kind} does not learn by lerobot_ext.offline_rl: it has no {', '.join(missing)}"
    if not policy.config.learns_values:
        return f"{kind} learns no values in this configuration, so it would imitate its own failures too"
    return ""


def explorer(policy: Any) -> Callable[[dict[str, Any]], Tensor]:
    """How the policy acts while it collects data."""
    found: Callable[[dict[str, Any]], Tensor] = getattr(policy, EXPLORE, None) or policy.predict_action_chunk
    return found
