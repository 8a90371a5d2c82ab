# SPDX-License-Identifier: Apache-2.0
"""Memory for pictures and batches that is used again as soon as nobody holds what was in it.

A float picture of 640x480 has 3.7 MB. Fresh memory of that size comes from the system page by page, which
costs several times what is then done with it: the conversion of an image takes 0.15 ms into memory that was
used before, and 1 to 2 ms into new memory.
"""

import os
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

WORTH_KEEPING = 2**18
"""Bytes: smaller arrays are left to the allocator, which keeps them itself."""


class Buffers:
    """Lends arrays; the memory of one that was let go is lent again. May be used by several threads.

    Args:
        limit (`int`): Most bytes that are kept for later; 0 keeps nothing. What is lent does not count.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"`limit` ({limit}) of kept bytes must be 0 or more")
        self.limit = limit
        self._idle: dict[int, deque[npt.NDArray[np.uint8]]] = {}
        if hasattr(os, "register_at_fork"):
            # A child would copy its parent's pages one by one: dearer than pages of its own.
            os.register_at_fork(after_in_child=self.clear)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array like `np.empty(shape, dtype)`, whose memory comes back with the last view of it."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if not WORTH_KEEPING <= size <= self.limit:
            return np.empty(shape, kind)
        try:
            memory = self._idle[size].pop()
        except (KeyError, IndexError):
            self._forget_another_size(size)
            memory = np.empty(size, np.uint8)
        return np.asarray(_Lent(memory, self)).view(kind).reshape(shape)

    def idle_bytes(self) -> int:
        """How much is kept for later."""
        return sum(size * len(kept) for size, kept in list(self._idle.items()))

    def clear(self) -> None:
        """Give back to the system what is kept."""
        self._idle = {}

    def _take_back(self, memory: npt.NDArray[np.uint8]) -> None:
        # Runs wherever a last reference goes, perhaps in the middle of `empty`: so no lock, and only
        # operations that are whole by themselves.
        if self.idle_bytes() + memory.nbytes <= self.limit:
            self._idle.setdefault(memory.nbytes, deque()).append(memory)

    def _forget_another_size(self, size: int) -> None:
        """Room for a size that is new: what is kept of the others goes, one at a time."""
        for other, kept in list(self._idle.items()):
            if other != size:
                try:
                    kept.pop()
                except IndexError:
                    self._idle.pop(other, None)
                return


class _Lent:
    """Owns memory for as long as an array made of this object, or a view of that, exists."""

    def __init__(self, memory: npt.NDArray[np.uint8], home: Buffers) -> None:
        self._memory, self._home = memory, home
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._home._take_back(self._memory)
