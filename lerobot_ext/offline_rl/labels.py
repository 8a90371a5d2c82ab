# SPDX-License-Identifier: Apache-2.0
"""How a dataset's episodes ended and what they earned, and the rewards of a batch.

LeRobot hands a policy `next.reward` and `next.done` of a frame, but not `next.success`, and no column of its
own; so these come from the dataset's parquet files, read once when the policy is built, and are looked up by
`index` and `episode_index`, which every batch has.

Legend: `B` batch, `H` chunk, `N` episodes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lerobot.utils.constants import DONE, REWARD, TRUNCATED
from numpy.typing import NDArray
from torch import Tensor

from .bounds import returns_to_go

SUCCESS: Final = "next.success"
TERMINAL_MODES: Final = ("auto", "success", "done_flag", "episode_end", "never")
REWARD_SOURCES: Final = (REWARD, "sparse_success", "step_cost")
_LABELS: Final = (REWARD, SUCCESS, DONE, TRUNCATED)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Episodes:
    """The episodes of a dataset; row `e` of each array is `episode_index` e.

    Args:
        start (`NDArray`): (N,) `index` of the first frame.
        end (`NDArray`): (N,) one past that of the last frame.
        rewards (`list`, *optional*): Rewards (T,) of each episode; None without the column.
        success (`NDArray`, *optional*): (N,) bool, whether `next.success` was ever set.
        done (`NDArray`, *optional*): (N,) bool, `next.done` of the last frame.
        truncated (`NDArray`, *optional*): (N,) bool, `next.truncated` of the last frame.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    rewards: list[NDArray[np.float64]] | None = None
    success: NDArray[np.bool_] | None = None
    done: NDArray[np.bool_] | None = None
    truncated: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.start)

    def terminal(self, mode: str) -> NDArray[np.bool_]:
        """(N,) bool: whether nothing follows an episode's end.

        Args:
            mode (`str`): `"success"`: it succeeded. `"done_flag"`: its last `next.done` is set and its
                `next.truncated`, where there is one, is not. `"episode_end"`: every episode (each
                demonstration ends when it is done). `"never"`: none. `"auto"`: by the first of
                `next.success`, `next.done` that the dataset has, and `"episode_end"` without either.

        Raises:
            ValueError: If `mode` is unknown or its column is missing.
        """
        if mode == "auto":
            mode = self.automatic_mode
        if mode == "success":
            return self._need(self.success, SUCCESS, mode)
        if mode == "done_flag":
            done = self._need(self.done, DONE, mode)
            return done if self.truncated is None else done & ~self.truncated
        if mode in ("episode_end", "never"):
            return np.full(len(self), mode == "episode_end")
        raise ValueError(f"`terminal_mode` ({mode!r}) is unknown; choose one of {', '.join(TERMINAL_MODES)}.")

    @property
    def automatic_mode(self) -> str:
        """What `"auto"` means for this dataset."""
        if self.success is not None:
            return "success"
        return "done_flag" if self.done is not None else "episode_end"

    def rewards_by(self, source: str) -> list[NDArray[np.float64]]:
        """Rewards (T,) of each episode; see `REWARD_SOURCES`.

        `"sparse_success"` is 1 at the last frame of an episode that succeeded, else 0; `"step_cost"` is -1 at
        every frame but that one.

        Raises:
            ValueError: If `source` is unknown or its column is missing.
        """
        if source == REWARD:
            if self.rewards is None:
                raise ValueError(
                    f"the dataset has no `{REWARD}`; write one into it, or set `reward_source` to "
                    "sparse_success or step_cost, which need `next.success`."
                )
            return self.rewards
        if source not in REWARD_SOURCES:
            raise ValueError(
                f"`reward_source` ({source!r}) is unknown; choose one of {', '.join(REWARD_SOURCES)}."
            )
        success = self._need(self.success, SUCCESS, source)
        made = []
        for length, succeeded in zip(self.end - self.start, success, strict=True):
            rewards = np.full(length, -1.0 if source == "step_cost" else 0.0)
            rewards[-1] += float(succeeded)
            made.append(rewards)
        return made

    def _need(self, column: NDArray[np.bool_] | None, name: str, wanted_by: str) -> NDArray[np.bool_]:
        if column is None:
            raise ValueError(
                f"the dataset has no `{name}`, which {wanted_by!r} needs; write it into the dataset, or "
                "choose another `terminal_mode` or `reward_source`."
            )
        return column


def read_episodes(metadata: Any) -> Episodes | None:
    """The episodes of an opened dataset, from its parquet files.

    Args:
        metadata (`LeRobotDatasetMetadata`): Of a dataset on disk, or of a mix of several: its episodes are
            numbered as the mix numbers them, with the columns that the mix has.

    Returns:
        `Episodes`, or None where there are no files to read.

    Raises:
        ValueError: If the files do not hold whole episodes.
    """
    from lerobot_ext.mixing.metadata import MixedMetadata

    if isinstance(metadata, MixedMetadata):
        return _episodes_of_mix(metadata)
    root = getattr(metadata, "root", None)
    columns = None if root is None else _read_columns(Path(root), {name: name for name in _LABELS})
    return None if columns is None else episodes_from_columns(columns)


def _episodes_of_mix(metadata: Any) -> Episodes:
    """The chosen episodes of each part, one part after the other.

    Raises:
        ValueError: A part's files are gone.
    """
    found: list[dict[str, NDArray[Any]]] = []
    frames = episodes = 0
    for part in metadata.parts:
        # What a part has and the mix has not would say something of some episodes alone.
        names = {new: part.names[new] for new in _LABELS if new in metadata.features and new in part.names}
        columns = _read_columns(Path(part.meta.root), names)
        if columns is None:
            raise ValueError(
                f"the mix's dataset {part.label} has no data files in {part.meta.root}; download it again."
            )
        chosen = np.isin(columns["episode_index"], part.episodes)
        columns = {name: values[chosen] for name, values in columns.items()}
        columns["episode_index"] = np.searchsorted(part.episodes, columns["episode_index"]) + episodes
        columns["index"] = np.arange(len(columns["index"])) + frames
        frames, episodes = frames + part.frames, episodes + len(part.episodes)
        found.append(columns)
    return episodes_from_columns({name: np.concatenate([c[name] for c in found]) for name in found[0]})


def _read_columns(root: Path, names: dict[str, str]) -> dict[str, NDArray[Any]] | None:
    """Columns (frames,) in the order of `index`; None where there are no files.

    Args:
        root (`Path`): Of a dataset.
        names (`dict[str, str]`): What to call a column, and what the files call it; those that the files
            lack are left out.
    """
    import pyarrow.parquet as pq

    files = sorted((root / "data").glob("**/*.parquet"))
    if not files:
        return None
    names = {"index": "index", "episode_index": "episode_index"} | names
    present = set(pq.read_schema(files[0]).names)
    names = {new: old for new, old in names.items() if old in present}
    tables = [pq.read_table(file, columns=list(names.values())) for file in files]
    read = {new: np.concatenate([_flat(table.column(old)) for table in tables]) for new, old in names.items()}
    order = np.argsort(read["index"], kind="stable")
    return {name: values[order] for name, values in read.items()}


def episodes_from_columns(columns: dict[str, NDArray[Any]]) -> Episodes:
    """Episodes from columns (frames,) in the order of `index`.

    Args:
        columns (`dict`): `index` and `episode_index`, and those of `next.reward`, `next.success`,
            `next.done`, `next.truncated` that there are.

    Raises:
        ValueError: If the frames of an episode are not side by side.
    """
    numbers = columns["episode_index"].astype(np.int64)
    firsts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1 if len(numbers) else 0))
    if len(np.unique(numbers)) != len(firsts):
        raise ValueError("the frames of an episode do not lie side by side; repair the dataset.")
    ends = np.append(firsts[1:], len(numbers))
    count = int(numbers.max()) + 1 if len(numbers) else 0
    start, end = np.zeros(count, np.int64), np.zeros(count, np.int64)
    start[numbers[firsts]] = columns["index"][firsts]
    end[numbers[firsts]] = columns["index"][ends - 1] + 1

    def at_last(name: str) -> NDArray[np.bool_] | None:
        if name not in columns:
            return None
        found = np.zeros(count, bool)
        found[numbers[firsts]] = columns[name][ends - 1].astype(bool)
        return found

    success = None
    if SUCCESS in columns:
        success = np.zeros(count, bool)
        np.logical_or.at(success, numbers, columns[SUCCESS].astype(bool))
    rewards: list[NDArray[np.float64]] | None = None
    if REWARD in columns:
        rewards = [np.zeros(0)] * count
        for first, last in zip(firsts, ends, strict=True):
            rewards[numbers[first]] = columns[REWARD][first:last].astype(np.float64)
    return Episodes(start, end, rewards, success, at_last(DONE), at_last(TRUNCATED))


def _flat(column: Any) -> NDArray[Any]:
    """A parquet column of scalars, or of vectors of one number, as (frames,)."""
    import pyarrow as pa

    joined = column.combine_chunks()
    if isinstance(joined, pa.ChunkedArray):
        joined = pa.concat_arrays(joined.chunks)
    if pa.types.is_list(joined.type) or pa.types.is_fixed_size_list(joined.type):
        joined = joined.flatten()
    flat: NDArray[Any] = joined.to_numpy(zero_copy_only=False)
    return flat


def batch_rewards(source: str, index: Tensor, horizon: int, end: Tensor, success: Tensor) -> Tensor:
    """Rewards of a batch's chunks by success alone; see `Episodes.rewards_by`.

    Args:
        source (`str`): `"sparse_success"` or `"step_cost"`.
        index (`Tensor`): (B,) number of the chunk's first frame.
        horizon (`int`): H.
        end (`Tensor`): (B,) one past the last frame of the sample's episode.
        success (`Tensor`): (B,) bool, whether that episode succeeded.

    Returns:
        `Tensor`: (B, H) float32; behind the end 0.
    """
    frames = index[:, None] + torch.arange(horizon, device=index.device)
    at_success = (frames == end[:, None] - 1) & success[:, None]
    step = -1.0 if source == "step_cost" else 0.0
    return torch.where(frames < end[:, None], step + at_success.float(), 0.0)


def _returns(episodes: Episodes, source: str) -> NDArray[np.float64]:
    """(N,) undiscounted."""
    return np.array([rewards.sum() for rewards in episodes.rewards_by(source)])


def best_episodes(episodes: Episodes, source: str, share: float) -> NDArray[np.bool_]:
    """(N,) bool: the episodes with the largest return, undiscounted; among equals the shorter ones.

    Args:
        episodes (`Episodes`): All of the dataset; rows without frames are never chosen.
        source (`str`): See `Episodes.rewards_by`.
        share (`float`): How many of them, in (0, 1]; at least one.
    """
    lengths = episodes.end - episodes.start
    returns = _returns(episodes, source)
    present = np.flatnonzero(lengths > 0)
    order = present[np.lexsort((lengths[present], -returns[present]))]
    chosen = np.zeros(len(episodes), bool)
    chosen[order[: max(1, round(share * len(present)))]] = True
    return chosen


def good_episodes(episodes: Episodes, source: str, level: float) -> NDArray[np.bool_]:
    """(N,) bool: the episodes whose return, undiscounted, is at least so far from the worst to the best.

    Args:
        episodes (`Episodes`): All of the dataset; rows without frames are never chosen.
        source (`str`): See `Episodes.rewards_by`.
        level (`float`): 0 the worst return that occurs, 1 the best. Where success alone is rewarded, anything
            between chooses the episodes that succeeded.
    """
    present = episodes.end > episodes.start
    returns = _returns(episodes, source)
    if not present.any():
        return present
    worst, best = returns[present].min(), returns[present].max()
    chosen: NDArray[np.bool_] = present & (returns >= worst + level * (best - worst))
    return chosen


def returns_of_frames(
    episodes: Episodes, source: str, terminal_mode: str, discount: float, low: float
) -> NDArray[np.float64]:
    """Discounted return from each frame to the end of its episode; row `i` is the frame of `index` i.

    Args:
        episodes (`Episodes`): All of the dataset.
        source (`str`): See `REWARD_SOURCES`.
        terminal_mode (`str`): See `Episodes.terminal`.
        discount (`float`): Of one frame.
        low (`float`): Value of what follows an end that is not terminal: the smallest that there is.
    """
    found = np.zeros(int(episodes.end.max(initial=0)))
    terminal = episodes.terminal(terminal_mode)
    for number, rewards in enumerate(episodes.rewards_by(source)):
        left = np.arange(len(rewards), 0, -1)
        after = 0.0 if terminal[number] else low
        place = slice(episodes.start[number], episodes.end[number])
        found[place] = returns_to_go(rewards, discount) + discount**left * after
    return found
