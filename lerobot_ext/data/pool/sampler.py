# SPDX-License-Identifier: Apache-2.0
"""Makes LeRobot's sampler draw from the episodes that a pool holds at the moment; see `schedule`.

A pool that holds everything leaves the sampler as it is. For one that holds some episodes at a time the order
of an epoch is another, and again follows from seed and epoch alone: ranks agree, and a run resumes where it
was as long as the budget is the same.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from lerobot.datasets.sampler import EpisodeAwareSampler

from lerobot_ext.data.pool.episode_pool import EpisodePool
from lerobot_ext.data.pool.opening import rotating_pools
from lerobot_ext.data.pool.schedule import WINDOW, draw
from lerobot_ext.patches import Patch

_patch = Patch("frame sampler", lost="a memory pool that does not hold all episodes is of little use")


def install() -> bool:
    """Put ours in place for samplers that are iterated from now on; whether it is in effect."""
    return _patch.install({(EpisodeAwareSampler, "_iter_epoch"): _iter_epoch})


def uninstall() -> None:
    """Give LeRobot its own sampler back."""
    _patch.uninstall()


def _iter_epoch(self: EpisodeAwareSampler, epoch: int, start: int) -> Iterator[int]:
    found = pool_of(self) if self.shuffle else None
    if found is None:
        yield from _patch.stock("_iter_epoch")(self, epoch, start)
        return
    pool, episodes = found
    frames = np.diff(self._cum_lengths, prepend=0)
    parts = pool.parts(epoch, self.seed)
    order, rounds = draw(frames, parts.part[episodes], parts.rounds, self.seed, epoch)
    first = int(rounds[start]) if start < len(rounds) else 0
    pool.begin_epoch(epoch, self.seed, newest=first + WINDOW - 1)
    for position in order[start:].tolist():
        yield self._frame_index(position)


def pool_of(sampler: EpisodeAwareSampler) -> tuple[EpisodePool, npt.NDArray[np.int64]] | None:
    """The pool that holds the sampler's episodes, some at a time, and the number of each of them."""
    starts = np.asarray(sampler._starts)
    ends = starts + np.diff(sampler._cum_lengths, prepend=0)
    for pool in rotating_pools():
        bounds_from = np.asarray(pool.source.meta.episodes["dataset_from_index"])
        bounds_to = np.asarray(pool.source.meta.episodes["dataset_to_index"])
        episodes = np.searchsorted(bounds_from, starts, side="right") - 1
        inside = (starts >= bounds_from[episodes]) & (ends <= bounds_to[episodes])
        if (episodes >= 0).all() and inside.all() and (pool.source.lengths[episodes] > 0).all():
            return pool, episodes.astype(np.int64)
    return None
