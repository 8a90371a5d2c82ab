# SPDX-License-Identifier: Apache-2.0
"""From a batch of LeRobot's to what its chunks are worth: rewards, terminals and bounds of one dataset.

Legend: `B` batch, `H` chunk, `N` episodes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION, DONE, OBS_PREFIX, REWARD
from torch import Tensor, nn

from .bounds import ValueBounds, bounds_of_rewards, value_bounds
from .chunks import ChunkTargets, chunk_targets, valid_steps
from .labels import (
    REWARD_SOURCES,
    TERMINAL_MODES,
    Episodes,
    batch_rewards,
    best_episodes,
    good_episodes,
    returns_of_frames,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChunkRules:
    """How logs become targets.

    Args:
        horizon (`int`): H.
        discount (`float`): γ of one frame, in [0, 1].
        reward_source (`str`, *optional*, defaults to `"next.reward"`): See `labels.REWARD_SOURCES`.
        terminal_mode (`str`, *optional*, defaults to `"auto"`): See `labels.Episodes.terminal`.
        keep_short (`bool`, *optional*, defaults to `True`): Use chunks that run beyond a terminal state.

    Raises:
        ValueError: If one of them has no meaning.
    """

    horizon: int
    discount: float
    reward_source: str = REWARD
    terminal_mode: str = "auto"
    keep_short: bool = True

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"`chunk_size` ({self.horizon}) must be at least 1.")
        if not 0.0 <= self.discount < 1.0:
            raise ValueError(f"`discount` ({self.discount}) must lie in [0, 1).")
        for name, value, choices in (
            ("reward_source", self.reward_source, REWARD_SOURCES),
            ("terminal_mode", self.terminal_mode, TERMINAL_MODES),
        ):
            if value not in choices:
                raise ValueError(f"`{name}` ({value!r}) is unknown; choose one of {', '.join(choices)}.")


class ChunkLabels(nn.Module):
    """What the chunks of a batch are worth, in units in which values are near 1.

    Its buffers, the bounds of the values, are saved with the policy. The episodes are read from the dataset
    whenever a policy is built for training, and not saved.

    Args:
        rules (`ChunkRules`): How.
        episodes (`Episodes`, *optional*): Of the dataset, from `labels.read_episodes`. Without them, as for a
            checkpoint that only acts or a dataset that is streamed, rewards come from the batch, the terminal
            mode `"auto"` means `"episode_end"` (the log says so), and the values are not bounded unless the
            statistics tell.
        statistics (`dict`, *optional*): LeRobot's, whose range of `next.reward` bounds the values where there
            are no episodes.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        rules: ChunkRules,
        episodes: Episodes | None = None,
        statistics: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.rules = rules
        self._said_no_ends = self._said_no_returns = self._said_no_good = False
        self.register_buffer("low", torch.tensor(-torch.inf))
        self.register_buffer("high", torch.tensor(torch.inf))
        self.set_dataset(episodes, statistics)

    def set_dataset(
        self, episodes: Episodes | None, statistics: dict[str, dict[str, Any]] | None = None
    ) -> None:
        """Take labels and bounds from a dataset; a dataset without rewards leaves the bounds as they are."""
        self.episodes = episodes
        self._tables: dict[str, Tensor] = {}
        bounds = self._bounds(episodes, statistics)
        if bounds is not None:
            self.low.fill_(bounds.low)
            self.high.fill_(bounds.high)
        if episodes is not None and len(episodes):
            terminal = episodes.terminal(self.rules.terminal_mode)
            self._tables = {"terminal": torch.from_numpy(terminal), "end": torch.from_numpy(episodes.end)}
            if episodes.success is not None:
                self._tables["success"] = torch.from_numpy(episodes.success)
            logger.info(
                "offline RL: %d episodes, %d end in a terminal state (terminal_mode %s); values within %.4g "
                "to %.4g",
                len(episodes),
                int(terminal.sum()),
                self.rules.terminal_mode
                if self.rules.terminal_mode != "auto"
                else f"auto: {episodes.automatic_mode}",
                float(self.low),
                float(self.high),
            )

    def _bounds(
        self, episodes: Episodes | None, statistics: dict[str, dict[str, Any]] | None
    ) -> ValueBounds | None:
        rules = self.rules
        if episodes is not None and (rules.reward_source != REWARD or episodes.rewards is not None):
            rewards = episodes.rewards_by(rules.reward_source)
            present = [number for number, found in enumerate(rewards) if len(found)]
            terminal = episodes.terminal(rules.terminal_mode)[present]
            return value_bounds([rewards[number] for number in present], terminal, rules.discount)
        found = (statistics or {}).get(REWARD)
        if found is None or rules.reward_source != REWARD:
            return None
        smallest, largest = (float(np.asarray(found[end]).reshape(-1)[0]) for end in ("min", "max"))
        return bounds_of_rewards(smallest, largest, rules.discount)

    @property
    def scale(self) -> Tensor:
        """The unit of the values, (): the larger magnitude of the bounds, 1 where there are none."""
        largest = torch.maximum(self.low.abs(), self.high.abs())
        return torch.where(largest.isfinite() & (largest > 0), largest, 1.0)

    def clamp(self, values: Tensor) -> Tensor:
        """Values, in units of `scale`, within the bounds."""
        return values.clamp(self.low / self.scale, self.high / self.scale)

    def valid(self, batch: dict[str, Any]) -> Tensor:
        """(B, H) bool: the steps of each chunk that lie within its episode."""
        actions = batch[ACTION]
        return valid_steps(batch, ACTION, (len(actions), self.rules.horizon), actions.device)

    def targets(self, batch: dict[str, Any]) -> ChunkTargets:
        """Returns in units of `scale`, bootstrap factors and usable samples.

        Args:
            batch (`dict`): Preprocessed, with observations at 0 and H, H actions and, for the reward source
                `next.reward`, H rewards.

        Raises:
            ValueError: If the batch lacks what the rules need; says how to get it.
        """
        valid = self.valid(batch)
        terminal = self._of_episodes("terminal", batch)
        if terminal is None:
            terminal = self._terminal_by_batch(batch, valid)
        return chunk_targets(
            self._rewards(batch, valid) / self.scale,
            valid,
            self._at_end(batch, valid),
            terminal,
            self.rules.discount,
            keep_short=self.rules.keep_short,
        )

    def earned(self, batch: dict[str, Any]) -> Tensor | None:
        """(B,) discounted rewards of each episode from its frame on, in units of `scale`.

        What would have followed an end that is not terminal counts with the smallest value. None where the
        dataset's episodes, or the batch's `index`, are not known; the log says so once.
        """
        if self.episodes is None or "index" not in batch:
            if not self._said_no_returns:
                self._said_no_returns = True
                logger.warning(
                    "offline RL: the returns of the dataset's episodes could not be read; advantages rest on "
                    "the critics' targets alone, as with --policy.return_share=0."
                )
            return None
        if "earned" not in self._tables:
            low = float(self.low) if bool(self.low.isfinite()) else 0.0
            rules = self.rules
            found = returns_of_frames(
                self.episodes, rules.reward_source, rules.terminal_mode, rules.discount, low
            )
            self._tables["earned"] = torch.from_numpy(found)
        return self._looked_up("earned", batch["index"].flatten()) / self.scale

    def best(self, batch: dict[str, Any], share: float) -> Tensor:
        """(B,) bool: the samples of the episodes with the largest returns.

        Raises:
            ValueError: If the dataset's episodes are not known.
        """
        found = self._chosen(batch, best_episodes, share)
        if found is None:
            raise ValueError(
                "filtered_bc needs the returns of the dataset's episodes, which could not be read; train on "
                "one LeRobotDataset with `next.reward`."
            )
        return found

    def good(self, batch: dict[str, Any], level: float) -> Tensor | None:
        """(B,) bool: the samples of the episodes whose return is so far from the worst to the best.

        None where the dataset's episodes, or the batch's `episode_index`, are not known; the log says so
        once.
        """
        found = self._chosen(batch, good_episodes, level)
        if found is None and not self._said_no_good:
            self._said_no_good = True
            logger.warning(
                "offline RL: the returns of the dataset's episodes could not be read, so all of them are "
                "cloned, as with --policy.cloned_return=0; train on one LeRobotDataset with `next.reward`."
            )
        return found

    def _chosen(self, batch: dict[str, Any], choose: Callable[..., Any], how_far: float) -> Tensor | None:
        """(B,) bool: the samples of the episodes that `choose` takes; None where they are not known."""
        key = f"{choose.__name__} {how_far}"
        if key not in self._tables and self.episodes is not None:
            self._tables[key] = torch.from_numpy(choose(self.episodes, self.rules.reward_source, how_far))
        return self._of_episodes(key, batch)

    def _of_episodes(self, name: str, batch: dict[str, Any]) -> Tensor | None:
        """(B,) what a table says of each sample's episode; None without that table."""
        if name not in self._tables or "episode_index" not in batch:
            return None
        return self._looked_up(name, batch["episode_index"].flatten())

    def _looked_up(self, name: str, numbers: Tensor) -> Tensor:
        """Rows (B,) of a table, which moves to where it is asked from."""
        table = self._tables[name]
        if table.device != numbers.device:
            table = self._tables[name] = table.to(numbers.device)
        return table[numbers]

    def _terminal_by_batch(self, batch: dict[str, Any], valid: Tensor) -> Tensor:
        mode = self.rules.terminal_mode
        size, device = len(valid), valid.device
        if mode in ("auto", "episode_end", "never"):
            if mode == "auto" and not self._said_no_ends:
                self._said_no_ends = True
                logger.warning(
                    "offline RL: the ends of the dataset's episodes could not be read, so each counts as "
                    "terminal; if time limits are among them, train on a dataset on this disk, or set "
                    "--policy.terminal_mode=never."
                )
            return torch.full((size,), mode != "never", device=device)
        done = batch.get(DONE)
        if mode == "done_flag" and self.rules.horizon == 1 and isinstance(done, Tensor):
            return done.flatten().bool()
        raise ValueError(
            f"`terminal_mode` {mode!r} needs the ends of the dataset's episodes, which could not be read; "
            "use episode_end or never, or train on one LeRobotDataset."
        )

    def _at_end(self, batch: dict[str, Any], valid: Tensor) -> Tensor:
        """(B,) bool: the observation after the chunk was never recorded."""
        for key, padded in batch.items():
            if not (key.startswith(OBS_PREFIX) and key.endswith("_is_pad")):
                continue
            if isinstance(padded, Tensor) and padded.ndim == 2 and padded.shape[1] == 2:
                return padded[:, 1]
        end = self._of_episodes("end", batch)
        if end is None or "index" not in batch:
            raise ValueError(
                "the batch does not tell where its episodes end: it needs `observation.state_is_pad`; set "
                "`observation_delta_indices` to [0, chunk_size]."
            )
        at_end: Tensor = batch["index"].flatten() + self.rules.horizon >= end
        return at_end

    def _rewards(self, batch: dict[str, Any], valid: Tensor) -> Tensor:
        source = self.rules.reward_source
        if source != REWARD:
            end, success = self._of_episodes("end", batch), self._of_episodes("success", batch)
            if end is None or success is None or "index" not in batch:
                raise ValueError(
                    f"`reward_source` {source!r} needs `next.success` of the dataset's episodes; write it "
                    "into the dataset, or use next.reward."
                )
            return batch_rewards(source, batch["index"].flatten(), self.rules.horizon, end, success)
        rewards = batch.get(REWARD)
        if not isinstance(rewards, Tensor) or rewards.shape[:2] != valid.shape:
            given = tuple(rewards.shape) if isinstance(rewards, Tensor) else "nothing"
            raise ValueError(
                f"`{REWARD}` has {given}; values need one reward a frame, {tuple(valid.shape)}. Write the "
                "column into the dataset, or set `reward_source` to sparse_success or step_cost."
            )
        return rewards.reshape(valid.shape).to(torch.promote_types(rewards.dtype, torch.float32))
