# SPDX-License-Identifier: Apache-2.0
"""Collected episodes in memory, as batches of the shape that LeRobot's data loader gives.

Legend: `B` batch, `T` frames of an episode, `W` frames of a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION, DONE, OBS_PREFIX, REWARD, TRUNCATED
from numpy.typing import NDArray

from lerobot_ext.offline_rl.labels import Episodes

from .episode import Episode

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Which frames a sample takes of each kind of column; None is the frame itself, without a window.

    Args:
        observation, action, reward (`tuple[int, ...]`, *optional*): LeRobot's delta indices.
    """

    observation: tuple[int, ...] | None
    action: tuple[int, ...] | None
    reward: tuple[int, ...] | None

    @classmethod
    def of(cls, config: Any) -> Windows:
        """Those of a policy's configuration."""

        def read(name: str) -> tuple[int, ...] | None:
            found = getattr(config, f"{name}_delta_indices")
            return None if found is None else tuple(found)

        return cls(read("observation"), read("action"), read("reward"))

    def of_column(self, name: str) -> tuple[int, ...] | None:
        """The window of a column."""
        if name.startswith(OBS_PREFIX):
            return self.observation
        return {ACTION: self.action, REWARD: self.reward}.get(name)


class Replay:
    """Episodes that were collected.

    Their numbers go on where the prior data's end, so that one table of episodes serves both.

    Args:
        windows (`Windows`): What a sample is.
        prior (`Episodes`): Of the prior data.
        fps (`float`): Frames a second.
        tasks (`Mapping[str, int]`, *optional*): `task_index` of the prior data's instructions; new ones get
            the numbers that follow.
        capacity (`int`, *optional*, defaults to `200000`): Frames that are kept, the newest; whole episodes
            only, and one at least.
    """

    def __init__(
        self,
        windows: Windows,
        prior: Episodes,
        fps: float,
        tasks: Mapping[str, int] | None = None,
        capacity: int = 200_000,
    ) -> None:
        self.windows, self.prior, self.fps, self.capacity = windows, prior, fps, capacity
        self.n_episodes = 0  # ever added
        self.n_frames = 0
        self._first_number = len(prior)
        self._first_index = int(prior.end.max(initial=0))
        self._tasks = dict(tasks or {})
        self._store: dict[str, NDArray[Any]] = {}
        self._held: list[tuple[int, int, int]] = []  # start and end in the store, episode
        self._used = 0
        self._labels: list[tuple[NDArray[np.float64], bool, bool, bool]] = []

    def __len__(self) -> int:
        """Frames that can be drawn."""
        return self._used

    def add(self, episode: Episode) -> None:
        """Take an episode.

        Raises:
            ValueError: It is empty, or has other columns than those before.
        """
        if not len(episode):
            raise ValueError("an episode without frames cannot be learned from.")
        columns = self._completed(episode)
        if self._store and columns.keys() != self._store.keys():
            different = sorted(columns.keys() ^ self._store.keys())
            raise ValueError(f"this episode differs from those before in the columns {different}.")
        self._make_room(len(episode), columns)
        for name, values in columns.items():
            self._store[name][self._used : self._used + len(episode)] = values
        self._held.append((self._used, self._used + len(episode), self.n_episodes))
        self._used += len(episode)
        self.n_frames += len(episode)
        self.n_episodes += 1
        done, truncated = (bool(episode.columns[name][-1]) for name in (DONE, TRUNCATED))
        rewards = episode.columns[REWARD].astype(np.float64)
        self._labels.append((rewards, episode.success, done, truncated))

    def episodes(self) -> Episodes:
        """The prior data's episodes and all collected ones, in one table for the policy.

        Where the prior data do not tell how episodes ended, all of theirs count as ended by being done, as
        they did before.
        """
        prior, n = self.prior, len(self._labels)
        lengths = np.array([len(rewards) for rewards, *_ in self._labels], dtype=np.int64)
        ends = self._first_index + np.cumsum(lengths)
        success, done, truncated = (
            np.array([label[place] for label in self._labels], dtype=bool) for place in (1, 2, 3)
        )

        def before(found: NDArray[np.bool_] | None, usual: bool) -> NDArray[np.bool_]:
            return np.full(len(prior), usual) if found is None else found

        return Episodes(
            start=np.concatenate([prior.start, ends - lengths]),
            end=np.concatenate([prior.end, ends]),
            rewards=None if prior.rewards is None else prior.rewards + [label[0] for label in self._labels],
            success=None if prior.success is None else np.concatenate([prior.success, success[:n]]),
            done=np.concatenate([before(prior.done, True), done]),
            truncated=np.concatenate([before(prior.truncated, False), truncated]),
        )

    def batch(self, places: Ints) -> dict[str, Any]:
        """Samples (B,) by their place among the frames that can be drawn, oldest first."""
        starts, ends, numbers = (np.array(column) for column in zip(*self._held, strict=True))
        row = np.searchsorted(starts, places, side="right") - 1
        first, last = starts[row], ends[row] - 1
        made: dict[str, Any] = {}
        for name, values in self._store.items():
            if name.startswith("_"):
                continue
            offsets = self.windows.of_column(name)
            if offsets is None:
                made[name] = _tensor(values[places])
                continue
            wanted = places[:, None] + np.array(offsets)  # (B, W)
            inside = wanted.clip(first[:, None], last[:, None])
            made[name] = _tensor(values[inside])
            made[f"{name}_is_pad"] = torch.from_numpy(wanted != inside)
        made["index"] = torch.from_numpy(self._first_index + self._store["_index"][places])
        made["episode_index"] = torch.from_numpy(self._first_number + numbers[row])
        frame = places - first
        made["frame_index"] = torch.from_numpy(frame)
        made["timestamp"] = torch.from_numpy((frame / self.fps).astype(np.float32))
        tasks = self._store["_task"][places]
        names = {number: text for text, number in self._tasks.items()}
        made["task_index"] = torch.from_numpy(tasks)
        made["task"] = [names[int(number)] for number in tasks]
        return made

    def _completed(self, episode: Episode) -> dict[str, NDArray[Any]]:
        for text in episode.tasks:
            self._tasks.setdefault(text, max(self._tasks.values(), default=-1) + 1)
        index = self.n_frames + np.arange(len(episode), dtype=np.int64)
        tasks = np.array([self._tasks[text] for text in episode.tasks], dtype=np.int64)
        return {**episode.columns, "_index": index, "_task": tasks}

    def _make_room(self, frames: int, columns: Mapping[str, NDArray[Any]]) -> None:
        """Let the oldest go where there are too many; grow by half at least."""
        gone = 0
        while self._held and self._used - gone + frames > self.capacity:
            start, end, _ = self._held.pop(0)
            gone += end - start
        if gone:
            for name, values in self._store.items():
                # A copy first: the two ranges overlap.
                self._store[name][: self._used - gone] = values[gone : self._used].copy()
            self._held = [(start - gone, end - gone, number) for start, end, number in self._held]
            self._used -= gone
        room = len(next(iter(self._store.values()))) if self._store else 0
        if self._used + frames <= room:
            return
        wanted = max(self._used + frames, room + room // 2, 1024)
        for name, values in columns.items():
            grown = np.zeros((wanted, *values.shape[1:]), values.dtype)
            if name in self._store:
                grown[: self._used] = self._store[name][: self._used]
            self._store[name] = grown


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    """Pictures as LeRobot gives them: channels first, float in [0, 1]; depth maps in millimetres."""
    if values.dtype == np.uint16:
        return torch.from_numpy(values.astype(np.float32)).movedim(-1, -3)
    found = torch.from_numpy(np.ascontiguousarray(values))
    if found.dtype == torch.uint8 and found.ndim >= 4:
        return found.movedim(-1, -3).to(torch.float32) / 255
    return found
