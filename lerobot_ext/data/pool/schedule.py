# SPDX-License-Identifier: Apache-2.0
"""Which episodes are in the pool together, and the order in which their frames are drawn.

For a dataset larger than the pool. An epoch's episodes, in an order of its own, are cut into parts of at most
a quarter of the room. In round r frames are drawn from parts r, r+1 and r+2 while part r+3 is decoded; each
frame belongs to one of the rounds in which its part is there, at random. So every frame is drawn exactly once
an epoch, next to frames of all episodes of three parts. All of it follows from the seed and the epoch alone:
every rank and every worker computes the same, and a resumed run goes on where it was.

    E episodes, N frames that are drawn, P parts, R rounds
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOW = 3
"""Parts that frames are drawn from."""
BUFFERS = WINDOW + 1
"""Parts that there is room for: one is decoded ahead."""

Ints = npt.NDArray[np.int64]
_EPISODES, _FRAMES = 1, 2


@dataclass(frozen=True)
class Parts:
    """How one epoch's episodes are cut.

    Args:
        part (`np.ndarray`): (E,) the part of each episode; -1 where it has no frames.
        slot (`np.ndarray`): (E,) where its first frame lies in its part, in frames.
        count (`int`): P.
    """

    part: Ints
    slot: Ints
    count: int

    @property
    def rounds(self) -> int:
        """R."""
        return max(1, self.count - WINDOW + 1)


def cut(lengths: Ints, room: int, seed: int, epoch: int) -> Parts:
    """Cut an epoch's episodes into parts.

    Args:
        lengths (`np.ndarray`): (E,) frames of each episode; 0 for those that are left out.
        room (`int`): Most frames of a part.
        seed (`int`): Of the run.
        epoch (`int`): From 0.

    Raises:
        ValueError: An episode is longer than `room`.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if lengths.size and lengths.max() > room:
        raise ValueError(f"an episode of {lengths.max()} frames does not fit in a part of {room}")
    part, slot = np.full(len(lengths), -1, np.int64), np.zeros(len(lengths), np.int64)
    number, used = 0, 0
    for episode in _generator(seed, epoch, _EPISODES).permutation(np.flatnonzero(lengths)).tolist():
        if used + lengths[episode] > room:
            number, used = number + 1, 0
        part[episode], slot[episode] = number, used
        used += int(lengths[episode])
    return Parts(part, slot, number + 1 if (part >= 0).any() else 0)


def draw(frames: Ints, part: Ints, rounds: int, seed: int, epoch: int) -> tuple[Ints, Ints]:
    """The order of one epoch.

    Args:
        frames (`np.ndarray`): (E,) how many frames of each episode are drawn, episode after episode.
        part (`np.ndarray`): (E,) the part of each.
        rounds (`int`): R.
        seed (`int`): Of the run.
        epoch (`int`): From 0.

    Returns:
        (N,) positions 0..N-1, each once, in the order in which they are drawn; (N,) the round of each.
    """
    generator = _generator(seed, epoch, _FRAMES)
    of_frame = np.repeat(np.asarray(part, np.int64), np.asarray(frames, np.int64))
    first = np.clip(of_frame - WINDOW + 1, 0, rounds - 1)
    last = np.clip(of_frame, 0, rounds - 1)
    when = first + (generator.random(len(of_frame)) * (last - first + 1)).astype(np.int64)
    order = np.lexsort((generator.random(len(of_frame)), when)).astype(np.int64)
    return order, when[order]


def _generator(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, epoch, purpose]))
