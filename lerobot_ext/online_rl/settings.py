# SPDX-License-Identifier: Apache-2.0
"""What an online run is, apart from policy, environment and prior data. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class OnlineSettings:
    """How a run collects and learns. "Steps" are those of the environment, frames of data.

    Args:
        online_steps (`int`, *optional*, defaults to `20000`): Steps to collect, at least; the last episodes
            are finished.
        warmup_steps (`int`, *optional*, defaults to `1000`): Steps before the first update.
        utd (`float`, *optional*, defaults to `1.0`): Updates for each step after those.
        prior_share (`float`, *optional*, defaults to `0.5`): Share of prior data in a batch, in [0, 1].
        batch_size (`int`, *optional*, defaults to `128`): Frames an update.
        n_envs (`int`, *optional*, defaults to `1`): Episodes that are collected side by side.
        exploration_noise (`float`, *optional*, defaults to `0.0`): Standard deviation of noise on normalised
            actions, on top of the policy's own exploration.
        replay_frames (`int`, *optional*, defaults to `200000`): Collected frames that are learned from, the
            newest; older ones stay on disk.
        eval_freq (`int`, *optional*, defaults to `5000`): Steps between evaluations; 0 evaluates never.
        eval_episodes (`int`, *optional*, defaults to `50`): Of each evaluation.
        eval_seed (`int`, *optional*, defaults to `100000`): Start of the first one; the same every time.
        save_freq (`int`, *optional*, defaults to `5000`): Steps between checkpoints.
        log_freq (`int`, *optional*, defaults to `500`): Steps between rows of `metrics.csv`.
        seed (`int`, *optional*, defaults to `1000`): Of all randomness.
        num_workers (`int`, *optional*, defaults to `0`): Processes that read the prior data.

    Raises:
        ValueError: One of them has no meaning.
    """

    online_steps: int = 20_000
    warmup_steps: int = 1_000
    utd: float = 1.0
    prior_share: float = 0.5
    batch_size: int = 128
    n_envs: int = 1
    exploration_noise: float = 0.0
    replay_frames: int = 200_000
    eval_freq: int = 5_000
    eval_episodes: int = 50
    eval_seed: int = 100_000
    save_freq: int = 5_000
    log_freq: int = 500
    seed: int = 1000
    num_workers: int = 0

    def __post_init__(self) -> None:
        for name in ("online_steps", "batch_size", "n_envs", "eval_episodes", "log_freq", "save_freq"):
            self._require(name, getattr(self, name) >= 1, "must be at least 1")
        for name in ("warmup_steps", "exploration_noise", "eval_freq", "num_workers", "seed", "eval_seed"):
            self._require(name, getattr(self, name) >= 0, "must not be negative")
        self._require("utd", self.utd > 0, "must be above 0")
        self._require("prior_share", 0.0 <= self.prior_share <= 1.0, "must lie in [0, 1]; it is a share")
        self._require("replay_frames", self.replay_frames >= self.batch_size, "must hold a batch")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"`{name}` ({getattr(self, name)}) {rule}.")

    def owed(self, env_steps: int) -> int:
        """Updates that are due when so many steps are collected."""
        return int(self.utd * max(0, env_steps - self.warmup_steps))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


NAMES = tuple(field.name for field in fields(OnlineSettings))
MAY_CHANGE = ("online_steps", "num_workers")
"""What a resumed run may be given anew: it changes nothing of what was done."""
