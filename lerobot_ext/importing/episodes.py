# SPDX-License-Identifier: Apache-2.0
"""Which frames of which file are an episode, and how the work is cut into pieces that survive a kill."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# Frames that a kill can cost, and whose encoding one encoder starts for.
SEGMENT_FRAMES: Final = 1024


@dataclass(frozen=True)
class Episode:
    """Consecutive rows of one file or group.

    Args:
        file (`int`): Which source.
        group (`str`): Group in it, empty for the file itself.
        start (`int`): First row.
        length (`int`): Frames.
        open_end (`bool`): The log stops without saying that the episode ended.
        task (`str`): What the file says its task is.
    """

    file: int
    group: str
    start: int
    length: int
    open_end: bool = False
    task: str = ""


@dataclass(frozen=True)
class Piece:
    """Frames of one episode that are encoded together with those before and after them.

    Args:
        episode (`int`): Its index.
        start (`int`): First frame, counted in the episode.
        length (`int`): Frames.
    """

    episode: int
    start: int
    length: int


@dataclass(frozen=True)
class Segment:
    """Frames that are encoded, and kept, together.

    Args:
        index (`int`): Place in the order.
        pieces (`tuple[Piece, ...]`): Its frames.
        whole (`bool`): The next segment begins with a new episode.
    """

    index: int
    pieces: tuple[Piece, ...]
    whole: bool

    @property
    def n_frames(self) -> int:
        """Frames of all pieces."""
        return sum(piece.length for piece in self.pieces)


def cut(
    file: int,
    group: str,
    length: int,
    flags: Mapping[str, npt.NDArray[Any]],
    *,
    flat: bool,
    task: str = "",
) -> list[Episode]:
    """Cut rows into episodes.

    Args:
        file (`int`): Which source.
        group (`str`): Group in it.
        length (`int`): Rows.
        flags (`Mapping`): (length,) bool by `done`, `truncated`: after such a row a new episode begins.
        flat (`bool`): Whether there can be several.
        task (`str`, *optional*): Their task.
    """
    ends = np.zeros(length, bool)
    for flag in flags.values():
        ends |= flag
    last = np.flatnonzero(ends) if flat else np.array([], int)
    stops = [*(last + 1).tolist()]
    if not stops or stops[-1] != length:
        stops.append(length)
    starts = [0, *stops[:-1]]
    return [
        Episode(file, group, start, stop - start, bool(flags) and not ends[stop - 1], task)
        for start, stop in zip(starts, stops, strict=True)
    ]


def segments(lengths: Sequence[int], frames: int = SEGMENT_FRAMES) -> Iterator[Segment]:
    """Cut the work: whole episodes until there are `frames`; an episode longer than twice that is cut too.

    Args:
        lengths (`Sequence[int]`): Frames of each episode.
        frames (`int`, *optional*): Frames of a segment.
    """
    index, pieces, count = 0, [], 0
    for episode, length in enumerate(lengths):
        start = 0
        while length - start > 2 * frames:
            pieces.append(Piece(episode, start, frames))
            yield Segment(index, tuple(pieces), whole=False)
            index, pieces, count, start = index + 1, [], 0, start + frames
        pieces.append(Piece(episode, start, length - start))
        count += length - start
        if count >= frames:
            yield Segment(index, tuple(pieces), whole=True)
            index, pieces, count = index + 1, [], 0
    if pieces:
        yield Segment(index, tuple(pieces), whole=True)
