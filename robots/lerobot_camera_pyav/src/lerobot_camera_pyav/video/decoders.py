# SPDX-License-Identifier: Apache-2.0
"""Keeps the video files that were read last open, for one process and all its threads."""

import os
import threading
from collections import OrderedDict
from pathlib import Path

from lerobot_camera_pyav.video.decoder import VideoDecoder

_Key = tuple[str, bool, tuple[int, int] | None]
_Stamp = tuple[int, int, int]


class OpenVideos:
    """Open `VideoDecoder`s, the least recently used of which is closed when there are too many.

    A file that was replaced or written to is opened anew. May be used by several threads.

    Args:
        limit (`int`): How many may be open; at least 1.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"`limit` ({limit}) of open videos must be at least 1")
        self.limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[_Key, tuple[_Stamp | None, VideoDecoder]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def get(
        self, path: Path | str, *, depth: bool = False, size: tuple[int, int] | None = None
    ) -> VideoDecoder:
        """The decoder of a file, opened if it is not; see `VideoDecoder` for arguments and errors."""
        key, stamp = (str(path), depth, size), _stamp(str(path))
        with self._lock:
            known = self._open.pop(key, None)
            if known is None or known[0] != stamp:
                known = stamp, VideoDecoder(path, depth=depth, size=size)
            self._open[key] = known
            while len(self._open) > self.limit:
                self._open.popitem(last=False)  # closes when the thread that reads from it is done
        return known[1]

    def clear(self) -> None:
        """Close all that nobody reads from at this moment, and those once they are done."""
        with self._lock:
            self._open.clear()


class PerProcess:
    """`OpenVideos` of this process: a forked one gets its own.

    A child shares the file positions of its parent's open files, and a lock that another thread of the parent
    held stays locked in it for ever. So it neither uses nor closes what it inherited.

    Args:
        limit (`int`): How many files may be open in each process.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pid, self._videos = os.getpid(), OpenVideos(limit)
        self._inherited: list[OpenVideos] = []
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    def get(self) -> OpenVideos:
        """Those of the process that asks."""
        if self._pid != os.getpid():  # forked past Python's own fork
            self._start_anew()
        return self._videos

    def _start_anew(self) -> None:
        self._inherited.append(self._videos)
        self._pid, self._videos = os.getpid(), OpenVideos(self.limit)


def _stamp(path: str) -> _Stamp | None:
    """What changes when a file is replaced or written to; `None` for a remote one."""
    if "://" in path:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None  # opening it says what is wrong
    return status.st_ino, status.st_size, status.st_mtime_ns
