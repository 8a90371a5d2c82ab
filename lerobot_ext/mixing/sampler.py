# SPDX-License-Identifier: Apache-2.0
"""Decides which frame of which dataset is drawn when: a pure function of (seed, epoch), as LeRobot's own.

An epoch has `E` draws. Dataset `d` with share `w` gets `w * E` of them, rounded up or down so that the mean
over epochs is exact (systematic rounding with a random start an epoch), and all draws of an epoch are
shuffled: each item of a batch comes from `d` with probability `w`, and no epoch strays from the shares.
Within a dataset frames come without replacement: it is walked through in one random order to its end, also
across epochs, and then in another. With `weights: by_frames` every frame comes exactly once an epoch.

Every rank computes the same order and accelerate deals it out; a resumed run computes the place where it left
off. Nothing is stored and no global random state is read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

Ints = npt.NDArray[np.int64]

# What a random number is for; part of its seed, so that no two uses share one.
_ROUNDING, _ORDER, _FRAMES = range(3)
_FUZZ: Final = 9  # digits; a share times an epoch that is whole up to rounding errors counts as whole


@dataclass(frozen=True)
class Draws:
    """What is to be drawn.

    Args:
        weights (`str`): `by_frames`, `by_dataset` or `explicit`.
        explicit (`tuple[float, ...]`): (D,) with `explicit`.
        epoch_size (`int`, *optional*): As many as there are frames to draw by default.
        seed (`int`, *optional*): In place of the training's.
        labels (`tuple[str, ...]`): (D,) names of the datasets, for messages.
        bounds (`tuple[int, ...]`): (D + 1,) rows at which each dataset starts, and the end.
    """

    weights: str
    explicit: tuple[float, ...]
    epoch_size: int | None
    seed: int | None
    labels: tuple[str, ...]
    bounds: tuple[int, ...]


def shares(weights: str, frames: Sequence[int], explicit: Sequence[float] = ()) -> npt.NDArray[np.float64]:
    """How often each dataset is drawn.

    Args:
        weights (`str`): `by_frames`, `by_dataset` or `explicit`.
        frames (`Sequence[int]`): (D,) frames that can be drawn.
        explicit (`Sequence[float]`, *optional*): (D,) with `explicit`.

    Returns:
        (D,) that add up to 1.
    """
    raw = {"by_frames": frames, "by_dataset": np.ones(len(frames)), "explicit": explicit}[weights]
    values = np.asarray(raw, dtype=np.float64)
    return np.asarray(values / values.sum())


class MixSampler:
    """Draws rows of a mixed dataset; stands in for LeRobot's `EpisodeAwareSampler`.

    Each iteration is the next epoch. There is no `set_epoch`, on purpose: accelerate calls it with the number
    of epochs of this process, which sends a resumed run back to the order of the first epoch (LeRobot 0.6.1's
    own sampler has that).

    Args:
        draws (`Draws`): What is to be drawn.
        starts (`Sequence[int]`): (N,) first row of each episode.
        ends (`Sequence[int]`): (N,) one past its last.
        drop_n_first_frames (`int`, *optional*, defaults to `0`): Frames at the start of an episode not drawn.
        drop_n_last_frames (`int`, *optional*, defaults to `0`): Frames at its end not drawn.
        shuffle (`bool`, *optional*, defaults to `True`): Without, every frame comes once, in order.
        seed (`int`, *optional*, defaults to `0`): Where `draws` has none.

    Raises:
        ValueError: A dataset has no frame left to draw.
    """

    def __init__(
        self,
        draws: Draws,
        starts: Sequence[int],
        ends: Sequence[int],
        drop_n_first_frames: int = 0,
        drop_n_last_frames: int = 0,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self._draws = draws
        self._seed = draws.seed if draws.seed is not None else seed
        self._shuffle = shuffle
        self._epoch = 0
        self._start_index = 0
        self._taken: list[Ints] = []  # draws of each dataset before epoch 0, 1, …
        self._rows = _rows_of(draws, starts, ends, drop_n_first_frames, drop_n_last_frames)
        self.frames: Ints = np.array([len(rows) for rows in self._rows], dtype=np.int64)
        self.shares = shares(draws.weights, self.frames.tolist(), draws.explicit)
        total = int(self.frames.sum())
        self._size = (draws.epoch_size or total) if shuffle else total

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        # The epoch counts when it begins, not when its first item is asked for: as LeRobot's sampler does.
        epoch, start = self._epoch, self._start_index
        self._epoch += 1
        self._start_index = 0
        return map(int, self.epoch_rows(epoch)[start:])

    def state_dict(self) -> dict[str, int]:
        """Where the next iteration starts."""
        return {"epoch": self._epoch, "start_index": self._start_index}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next iteration there."""
        self._epoch = state["epoch"]
        self._start_index = state["start_index"]

    def quotas(self, epoch: int) -> Ints:
        """How many draws each dataset gets in an epoch.

        Returns:
            (D,) that add up to `len(self)`; each within 1 of its share.
        """
        start = _uniform(self._seed, _ROUNDING, epoch)
        limits = np.round(np.cumsum(self.shares) * self._size, _FUZZ)
        limits[-1] = self._size
        # Marks stand at start, start + 1, …; a dataset gets those that fall into its stretch.
        marks = np.ceil(limits - start).astype(np.int64)
        return np.diff(marks, prepend=0)

    def epoch_rows(self, epoch: int) -> Ints:
        """All rows of an epoch, in order.

        Returns:
            (len(self),) rows of the mixed dataset.
        """
        if not self._shuffle:
            return np.concatenate(self._rows)
        quotas = self.quotas(epoch)
        drawn = np.concatenate(
            [self._next_rows(index, epoch, int(quota)) for index, quota in enumerate(quotas)]
        )
        order = torch.randperm(self._size, generator=_generator(self._seed, _ORDER, epoch)).numpy()
        return np.asarray(drawn[order])

    def _next_rows(self, index: int, epoch: int, count: int) -> Ints:
        """The next `count` rows of a dataset, after those that the epochs before have taken."""
        rows = self._rows[index]
        if count == 0:
            return rows[:0]
        done = int(self._taken_before(epoch)[index])
        first_pass, last_pass = done // len(rows), (done + count - 1) // len(rows)
        passes = [
            torch.randperm(len(rows), generator=_generator(self._seed, _FRAMES, index, number)).numpy()
            for number in range(first_pass, last_pass + 1)
        ]
        offset = done - first_pass * len(rows)
        return np.asarray(rows[np.concatenate(passes)[offset : offset + count]])

    def _taken_before(self, epoch: int) -> Ints:
        """How many draws each dataset had in all epochs before this one."""
        if not self._taken:
            self._taken.append(np.zeros(len(self._rows), dtype=np.int64))
        while len(self._taken) <= epoch:
            self._taken.append(self._taken[-1] + self.quotas(len(self._taken) - 1))
        return self._taken[epoch]


def _rows_of(draws: Draws, starts: Sequence[int], ends: Sequence[int], first: int, last: int) -> list[Ints]:
    """The rows of each dataset that may be drawn."""
    if first < 0 or last < 0:
        raise ValueError(f"frames to drop must be 0 or more, not {first} and {last}")
    begin = np.asarray(starts, dtype=np.int64) + first
    stop = np.asarray(ends, dtype=np.int64) - last
    found = []
    for index, label in enumerate(draws.labels):
        low, high = draws.bounds[index : index + 2]
        inside = (np.asarray(starts) >= low) & (np.asarray(ends) <= high) & (stop > begin)
        pieces = [np.arange(a, b) for a, b in zip(begin[inside], stop[inside], strict=True)]
        if not pieces:
            raise ValueError(
                f"dataset {label} of the mix has no frame to draw: of each episode the first {first} and the "
                f"last {last} are left out; take it out of the mix, or use longer episodes"
            )
        found.append(np.concatenate(pieces))
    return found


def _state(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1, dtype=np.uint64)[0])


def _generator(*words: int) -> torch.Generator:
    return torch.Generator().manual_seed(_state(*words))


def _uniform(*words: int) -> float:
    """A number in [0, 1)."""
    return (_state(*words) >> 11) / 2.0**53


def stand_in(stock: Any, *words: Any, **named: Any) -> Any:
    """LeRobot's sampler; of a mixed dataset ours, with the same arguments.

    Args:
        stock (`Callable`): LeRobot's class.
        words (`Any`): Its arguments.
        named (`Any`): Its arguments; `absolute_to_relative_idx` of a mixed dataset is its `Draws`.
    """
    import inspect

    given = inspect.signature(stock).bind(*words, **named)
    draws = given.arguments.get("absolute_to_relative_idx")
    if not isinstance(draws, Draws):
        return stock(*words, **named)
    arguments = given.arguments
    return MixSampler(
        draws,
        list(arguments["dataset_from_indices"]),
        list(arguments["dataset_to_indices"]),
        drop_n_first_frames=arguments.get("drop_n_first_frames", 0),
        drop_n_last_frames=arguments.get("drop_n_last_frames", 0),
        shuffle=arguments.get("shuffle", False),
        seed=arguments.get("seed", 0),
    )
