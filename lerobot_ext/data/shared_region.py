# SPDX-License-Identifier: Apache-2.0
"""Bytes that several processes see as one: DataLoader workers, forked or spawned, and ranks of one machine.

A region is a file without a name (`memfd` on Linux, elsewhere an unlinked temporary file) that everyone maps.
It is gone when the last process that has it is: after a kill nothing is left behind. Forked processes inherit
it; a spawned one receives its file descriptor with the pickled dataset; the ranks of one launch find it by a
note in the folder for temporary files. A pickle that goes anywhere else does not hold it.

A region may also be a named file that stays: a cache on a disk.
"""

import hashlib
import json
import mmap
import multiprocessing.context
import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEADROOM = 2**26
"""Bytes that stay free on a file system that a region is put on."""


class NoRoomError(OSError):
    """There is no room for a region, or no way to have one; the message says which, in one line."""


@dataclass(frozen=True)
class _Note:
    """Where another rank finds a region: in the descriptors of the process that made it."""

    pid: int
    started: str
    descriptor: int
    size: int


class SharedRegion:
    """`size` bytes that are shared; see the module's docstring.

    Made by `create`, `nameless_in`, `find_or_build` or `open_file`.

    Args:
        descriptor (`int`): Of an open file of at least `size` bytes; closed with the region.
        size (`int`): Bytes.
        path (`Path`, *optional*): The name of a file that stays.
    """

    def __init__(self, descriptor: int, size: int, path: Path | None = None) -> None:
        self.descriptor, self.size, self.path = descriptor, size, path
        weakref.finalize(self, os.close, descriptor).atexit = False

    @classmethod
    def create(cls, size: int) -> "SharedRegion":
        """A new region of zeros; memory is taken as it is written to.

        Raises:
            NoRoomError: There is no room for it.
        """
        if not posix():
            raise NoRoomError("this system cannot share memory by file descriptors")
        try:
            descriptor, in_memory = _nameless()
        except OSError as error:
            raise NoRoomError(f"no shared file can be made: {error}") from error
        try:
            if not in_memory:
                _reserve(descriptor, size, Path(tempfile.gettempdir()))
            os.ftruncate(descriptor, size)
        except OSError as error:
            os.close(descriptor)
            raise NoRoomError(str(error)) from error
        return cls(descriptor, size)

    @classmethod
    def nameless_in(cls, folder: Path, size: int) -> "SharedRegion":
        """A new region on the disk that `folder` is on; its room is reserved at once, and freed with it.

        Raises:
            NoRoomError: There is no room for it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix="lerobot_ext-")
        os.unlink(name)
        try:
            _reserve(descriptor, size, folder)
        except OSError as error:
            os.close(descriptor)
            raise NoRoomError(str(error)) from error
        return cls(descriptor, size)

    @classmethod
    def open_file(cls, path: Path, size: int) -> "SharedRegion":
        """The file `path`, made of zeros if it is not there; it stays.

        Raises:
            NoRoomError: There is no room for it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            if os.fstat(descriptor).st_size != size:
                os.ftruncate(descriptor, 0)
                _reserve(descriptor, size, path.parent)
        except OSError as error:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise NoRoomError(str(error)) from error
        return cls(descriptor, size, path)

    def map(self, *, private: bool = False) -> mmap.mmap:
        """The bytes; with `private`, what is written to them stays with this map."""
        access = mmap.ACCESS_COPY if private else mmap.ACCESS_WRITE
        return mmap.mmap(self.descriptor, self.size, access=access)

    def __reduce__(self) -> tuple[Callable[..., "SharedRegion | None"], tuple[Any, ...]]:
        if self.path is not None:
            return _reopen, (str(self.path), self.size)
        if multiprocessing.context.get_spawning_popen() is None:
            return _nothing, ()
        from multiprocessing.reduction import DupFd

        return _receive, (DupFd(self.descriptor), self.size)


def posix() -> bool:
    """Whether this system has the file descriptors and locks that sharing stands on."""
    return os.name == "posix"


def find_or_build(key: Callable[[], str], build: Callable[[], SharedRegion]) -> SharedRegion:
    """The region that another rank of this launch built under `key`, or one that is built now.

    Outside a launch of several ranks it is always built.

    Args:
        key (`Callable`): Gives a name that says what is in it, wholly; called where there are several ranks.
        build (`Callable`): Makes and fills it; one rank does, the others wait.

    Raises:
        NoRoomError: From `build`.
    """
    launch = _launch()
    if not launch or not sys.platform.startswith("linux"):
        return build()
    folder = _notes_folder()
    digest = hashlib.sha256(f"{launch} {key()}".encode()).hexdigest()[:32]
    note = folder / f"{digest}.json"
    with locked(folder / "lock"):
        found = _follow(note)
        if found is not None:
            return found
        _remove_stale(folder)
        region = build()
        me = _Note(os.getpid(), _started(os.getpid()), region.descriptor, region.size)
        note.write_text(json.dumps(me.__dict__), encoding="utf-8")
        weakref.finalize(region, _remove_own, note, os.getpid())
    return region


def _launch() -> str:
    """What the ranks of one `torchrun` or `accelerate launch` have in common; empty for one rank alone."""
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        return ""
    names = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
    return " ".join(os.environ.get(name, "") for name in names)


def _notes_folder() -> Path:
    """Where the ranks of this user leave notes; nobody else may write there."""
    folder = Path(tempfile.gettempdir()) / f"lerobot_ext-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise NoRoomError(f"{folder} belongs to another user")
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, made if it is not there, that ends with the process."""
    import fcntl

    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _follow(note: Path) -> SharedRegion | None:
    """The region that a note points to, if whoever wrote it still has it."""
    try:
        there = _Note(**json.loads(note.read_text(encoding="utf-8")))
        if _started(there.pid) != there.started:
            return None
        descriptor = os.open(f"/proc/{there.pid}/fd/{there.descriptor}", os.O_RDWR | os.O_CLOEXEC)
    except (OSError, ValueError, TypeError):
        return None
    if os.fstat(descriptor).st_size != there.size:
        os.close(descriptor)
        return None
    return SharedRegion(descriptor, there.size)


def _remove_stale(folder: Path) -> None:
    """Remove the notes of processes that are gone; their memory went with them."""
    for note in folder.glob("*.json"):
        with suppress(OSError, ValueError, TypeError):
            there = _Note(**json.loads(note.read_text(encoding="utf-8")))
            if _started(there.pid) != there.started:
                note.unlink(missing_ok=True)


def _remove_own(note: Path, pid: int) -> None:
    if os.getpid() == pid:  # not a forked child that lets go of it
        note.unlink(missing_ok=True)


def _started(pid: int) -> str:
    """When a process started: two of the same number are told apart by it. Empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _nameless() -> tuple[int, bool]:
    """A descriptor of a new file without a name, and whether it lies in memory."""
    if hasattr(os, "memfd_create"):
        with suppress(OSError):  # forbidden in some sandboxes
            return os.memfd_create("lerobot_ext"), True
    descriptor, name = tempfile.mkstemp(prefix="lerobot_ext-")
    os.unlink(name)
    return descriptor, False


def _reserve(descriptor: int, size: int, folder: Path) -> None:
    """Make the file `size` bytes long with room behind each: a full disk must not end in a bus error.

    Raises:
        OSError: There is not enough.
    """
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < size + _HEADROOM:
        raise OSError(f"{size / 2**30:.2f} GiB are needed and {free / 2**30:.2f} are free in {folder}")
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def _receive(duplicate: Any, size: int) -> SharedRegion:
    """In a spawned process: the region whose descriptor came with it."""
    return SharedRegion(duplicate.detach(), size)


def _reopen(path: str, size: int) -> SharedRegion | None:
    """The named file; nothing if it is gone or another by now."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    if os.fstat(descriptor).st_size != size:
        os.close(descriptor)
        return None
    return SharedRegion(descriptor, size, Path(path))


def _nothing() -> None:
    """In place of a region that a pickle outside a starting process cannot hold."""
