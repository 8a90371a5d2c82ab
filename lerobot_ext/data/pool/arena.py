# SPDX-License-Identifier: Apache-2.0
"""The shared memory that frames lie in, and what keeps several processes from spoiling it.

It has one buffer for everything, or `BUFFERS` of them that are used in turn. A frame is there when its mark
says so; the mark is set after the pixels, and writing the same frame twice writes the same bytes, so a single
buffer needs no lock. A buffer that is used again has a tag, the number of the part that lies in it: whoever
writes holds a shared lock and looks at the tag, whoever gives the buffer to another part holds an exclusive
one, and whoever reads looks at the tag before and after. All locks end with the process that holds them.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lerobot_ext.data.shared_region import SharedRegion

_HEAD_BYTES = 4096
FORMAT = 0x4C52584F4F500001  # names this layout: change it with the layout
_ALIGNMENT = 64
MISSING, READY, ON_DISK = 0, 1, 2


@dataclass(frozen=True)
class Geometry:
    """What an arena has room for.

    Args:
        cameras (`tuple[str, ...]`): Their keys.
        shapes (`tuple[tuple[int, int, int], ...]`): (C, H, W) of each camera's pictures.
        kinds (`tuple[str, ...]`): `uint8`, or `uint16` of a depth camera.
        buffers (`int`): 1, or `BUFFERS`.
        steps (`int`): Frames of a buffer; one has a picture of each camera.
    """

    cameras: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    kinds: tuple[str, ...]
    buffers: int
    steps: int

    @property
    def picture_bytes(self) -> list[int]:
        """Of each camera."""
        return [
            int(np.prod(shape)) * np.dtype(kind).itemsize
            for shape, kind in zip(self.shapes, self.kinds, strict=True)
        ]

    @property
    def step_bytes(self) -> int:
        """Of one frame of all cameras."""
        return sum(self.picture_bytes)

    @property
    def first_picture(self) -> int:
        """Where the pictures start."""
        marks = self.buffers * self.steps * len(self.cameras)
        return -(-(_HEAD_BYTES + marks) // _ALIGNMENT) * _ALIGNMENT

    @property
    def n_bytes(self) -> int:
        """Of all."""
        return self.first_picture + self.buffers * self.steps * self.step_bytes


class Arena:
    """Frames in a region; see the module's docstring. Pickles as far as its region does.

    Args:
        region (`SharedRegion`): Of `geometry.n_bytes`; zeros, or used by an arena of the same geometry.
        geometry (`Geometry`): What lies where.
    """

    def __init__(self, region: SharedRegion, geometry: Geometry) -> None:
        self.region, self.geometry = region, geometry
        self._map = region.map()
        self.head: npt.NDArray[np.int64] = np.frombuffer(self._map, np.int64, _HEAD_BYTES // 8)
        shape = (geometry.buffers, geometry.steps, len(geometry.cameras))
        self.marks = np.frombuffer(self._map, np.uint8, int(np.prod(shape)), _HEAD_BYTES).reshape(shape)
        self._pictures, start = [], geometry.first_picture
        for shape_of, kind, size in zip(geometry.shapes, geometry.kinds, geometry.picture_bytes, strict=True):
            count = geometry.buffers * geometry.steps
            room = np.frombuffer(self._map, kind, count * size // np.dtype(kind).itemsize, start)
            self._pictures.append(room.reshape(geometry.buffers, geometry.steps, *shape_of))
            start += count * size
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._claims: set[int] = set()
        if self.head[0] != FORMAT:
            self.head[0] = FORMAT
            self.head[1] = _boot_number()
        elif region.path is not None and self.head[1] != _boot_number():
            self._trust_only_the_disk()

    def __reduce__(self) -> Any:
        return _arena, (self.region, self.geometry)

    @property
    def tags(self) -> npt.NDArray[np.int64]:
        """(buffers,) the tag of the part in each buffer; 0 for none, and always of a single buffer."""
        return self.head[16 : 16 + self.geometry.buffers]

    @property
    def state(self) -> npt.NDArray[np.int64]:
        """(8,) words that the owner of the arena uses as it likes."""
        return self.head[8:16]

    def read(
        self, buffer: int, tag: int, camera: int, steps: npt.NDArray[np.int64], out: torch.Tensor
    ) -> npt.NDArray[np.int64]:
        """Copy frames that are there.

        Args:
            buffer (`int`): Where they would lie.
            tag (`int`): Of their part.
            camera (`int`): Which camera's.
            steps (`np.ndarray`): (T,) places in the buffer.
            out (`torch.Tensor`): (T, C, H, W) to fill.

        Returns:
            Indices into `steps` of those that are not there; `out` is arbitrary in their place.
        """
        if self.tags[buffer] != tag:
            return np.arange(len(steps))
        there = self.marks[buffer, steps, camera] != MISSING
        self._fence()
        room, into = self._pictures[camera][buffer], out.numpy()
        for index in np.flatnonzero(there).tolist():
            into[index] = room[steps[index]]
        self._fence()
        if self.tags[buffer] != tag:  # it was given to another part meanwhile
            return np.arange(len(steps))
        return np.flatnonzero(~there)

    def write(self, buffer: int, tag: int, camera: int, steps: Sequence[int], frames: torch.Tensor) -> None:
        """Put frames there, if the buffer still holds their part.

        Args:
            buffer (`int`): Where they belong.
            tag (`int`): Of their part.
            camera (`int`): Which camera's.
            steps (`Sequence[int]`): (T,) places in the buffer.
            frames (`torch.Tensor`): (T, C, H, W).
        """
        room, pixels = self._pictures[camera][buffer], frames.numpy()
        with self._held(buffer, exclusive=False):
            if self.tags[buffer] != tag:
                return
            for step, picture in zip(steps, pixels, strict=True):
                if self.marks[buffer, step, camera] == MISSING:
                    room[step] = picture
            self._fence()
            marks = self.marks[buffer, :, camera]
            places = np.asarray(steps)
            marks[places] = np.maximum(marks[places], READY)

    def give(self, buffer: int, tag: int) -> None:
        """Let a buffer hold the part `tag` from now on, unless it holds a later one."""
        with self._held(buffer, exclusive=True):
            if self.tags[buffer] >= tag:
                return
            self.tags[buffer] = 0
            self._fence()
            self.marks[buffer] = MISSING
            self._fence()
            self.tags[buffer] = tag

    def missing(self, buffer: int, tag: int, camera: int, first: int, n: int) -> npt.NDArray[np.int64]:
        """Which of `n` places from `first` on are to be filled; none if the buffer holds another part."""
        if self.tags[buffer] != tag:
            return np.empty(0, np.int64)
        return first + np.flatnonzero(self.marks[buffer, first : first + n, camera] == MISSING)

    def save(self, buffer: int, camera: int, first: int, n: int) -> None:
        """Wait until frames of a named file are on the disk, and mark them: a power loss takes the others."""
        if self.region.path is None:
            return
        size = self.geometry.picture_bytes[camera]
        start = self._pictures[camera][buffer, first].__array_interface__["data"][0] - self._address
        page = start - start % _page()
        self._map.flush(page, start + n * size - page)
        self.marks[buffer, first : first + n, camera] = ON_DISK

    @contextmanager
    def claimed(self, number: int) -> Iterator[bool]:
        """Whether nobody else does the job `number`; it is ours until the block ends."""
        place = self.geometry.n_bytes + BUFFER_LOCKS + number
        with self._threads():
            # A lock on a file belongs to a process: another thread of it would get it, too.
            free = number not in self._claims and self._lock_place(place, exclusive=True, wait=False)
            if free:
                self._claims.add(number)
        try:
            yield free
        finally:
            if free:
                self._claims.discard(number)
                self._unlock_place(place)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Alone with the owner's words."""
        with self._held(BUFFER_LOCKS - 1, exclusive=True):
            yield

    @property
    def _address(self) -> int:
        return int(self.head.__array_interface__["data"][0])

    @contextmanager
    def _held(self, buffer: int, *, exclusive: bool) -> Iterator[None]:
        if self.geometry.buffers == 1 and buffer == 0:
            yield
            return
        # A lock on a file belongs to a process: its threads need one of their own.
        with self._threads():
            place = self.geometry.n_bytes + buffer
            self._lock_place(place, exclusive=exclusive, wait=True)
            try:
                yield
            finally:
                self._unlock_place(place)

    def _threads(self) -> threading.Lock:
        """A lock of this process; one that was forked while it was held would never be free."""
        if self._pid != os.getpid():
            self._pid, self._lock, self._claims = os.getpid(), threading.Lock(), set()
        return self._lock

    def _lock_place(self, place: int, *, exclusive: bool, wait: bool) -> bool:
        import fcntl

        how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.lockf(self.region.descriptor, how if wait else how | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock_place(self, place: int) -> None:
        import fcntl

        fcntl.lockf(self.region.descriptor, fcntl.LOCK_UN, 1, place)

    def _fence(self) -> None:
        """Nothing is read or written past this: a lock orders memory, also where the processor does not."""
        with threading.Lock():
            pass

    def _trust_only_the_disk(self) -> None:
        """After a restart of the machine: marks may have reached the disk before the pixels did."""
        self.marks[self.marks == READY] = MISSING
        self.head[1] = _boot_number()


BUFFER_LOCKS = 64
"""Places for locks of buffers, before those of claims."""


def _arena(region: SharedRegion | None, geometry: Geometry) -> Arena | None:
    return None if region is None else Arena(region, geometry)


def _boot_number() -> int:
    """Differs from one start of this machine to the next; 0 where that cannot be known."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
    except OSError:
        return int.from_bytes(os.urandom(7), "little")  # unknown: trust only what is on the disk
    return int(text.replace("-", "").strip()[:15], 16)


def _page() -> int:
    import mmap

    return mmap.ALLOCATIONGRANULARITY
