# SPDX-License-Identifier: Apache-2.0
"""Opens the pool of a dataset: what fits, where it goes, and one line that says so."""

import logging
import platform
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from lerobot_ext.data import fingerprint
from lerobot_ext.data.pool.arena import FORMAT, Arena, Geometry
from lerobot_ext.data.pool.budget import POOL, PoolBudget, parse_budget
from lerobot_ext.data.pool.episode_pool import EpisodePool
from lerobot_ext.data.pool.schedule import BUFFERS
from lerobot_ext.data.pool.source import VideoSource
from lerobot_ext.data.shared_region import NoRoomError, SharedRegion, find_or_build, locked, posix

_SUFFIX = ".frames"

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Held:
    """A pool of this process: what it may take of the budget."""

    pool: "weakref.ref[EpisodePool]"
    root: Path
    episodes: frozenset[int]
    n_bytes: int


_held: list[_Held] = []


def open_pool(dataset: Any, budget: str | PoolBudget) -> EpisodePool:
    """A pool of a dataset's episodes, for whoever samples for itself; see `EpisodePool`.

    The dataset must have been opened with `ram_reader` installed, as the stock command lines do.

    Args:
        dataset (`LeRobotDataset`): With video cameras.
        budget (`str | PoolBudget`): As in `LEROBOT_EXT_POOL`: `8GiB:96x96`.

    Raises:
        ValueError: The budget is none, or too small for the longest episode.
        NoRoomError: There is no room for it.
    """
    reader = dataset.reader
    if getattr(reader, "_columns", None) is None:
        raise ValueError("this dataset is read by LeRobot's own reader: call ram_reader.install() first")
    pool = pool_of_reader(reader, parse_budget(budget) if isinstance(budget, str) else budget)
    if pool is None:
        raise ValueError("this dataset gets no pool; the log says why")
    return pool


def pool_of_reader(reader: Any, budget: PoolBudget) -> EpisodePool | None:
    """The pool of a dataset as far as `budget` goes, or `None` with one line where it has none.

    Args:
        reader (`RamDatasetReader`): With its columns loaded.
        budget (`PoolBudget`): Of the process: what its other pools hold is taken off.

    Raises:
        ValueError: The budget is too small for four times the longest episode, or larger than the memory.
    """
    if not reader._meta.video_keys:
        return _without(reader, "it has no videos")
    if not posix():
        return _without(reader, "this system cannot share memory by file descriptors")
    source = _source(reader, budget)
    try:
        geometry = _everything(source)
    except Exception as error:  # noqa: BLE001 - reading the dataset will say what is wrong, with its place
        return _without(reader, f"its first picture cannot be decoded: {type(error).__name__}: {error}")
    episodes = frozenset(np.flatnonzero(source.lengths).tolist())
    left = budget.n_bytes - _taken(reader.root, episodes)
    if geometry.n_bytes > left:
        if left < budget.n_bytes:
            return _without(
                reader,
                f"it would need {_gib(geometry.n_bytes)}, and of the {_gib(budget.n_bytes)} of {POOL} other"
                f" datasets leave {_gib(left)}",
            )
        geometry = _in_turns(source, geometry, left)
    try:
        region = _region(reader, source, geometry, budget)
    except NoRoomError as reason:
        return _without(reader, str(reason))
    pool = EpisodePool(source, Arena(region, geometry))
    _held.append(_Held(weakref.ref(pool), reader.root, episodes, geometry.n_bytes))
    logger.info("lerobot_ext: %s", _described(source, geometry, budget, len(episodes)))
    return pool


def rotating_pools() -> list[EpisodePool]:
    """The pools of this process that hold some episodes at a time."""
    pools = [held.pool() for held in _held]
    return [pool for pool in pools if pool is not None and not pool.holds_all and pool.arena is not None]


def _source(reader: Any, budget: PoolBudget) -> VideoSource:
    columns, first = reader._columns, reader._first_row
    lengths = np.where(first >= 0, columns.episode_end - columns.episode_start, 0)
    return VideoSource(
        meta=reader._meta,
        root=reader.root,
        tolerance_s=reader._tolerance_s,
        backend=reader._video_backend,
        timestamps=columns.tensors["timestamp"],
        first_row=first,
        lengths=lengths,
        size=budget.size,
    )


def _everything(source: VideoSource) -> Geometry:
    """Room for all episodes. Decodes a picture of each camera: backends may give other than is declared."""
    first = int(np.flatnonzero(source.lengths)[0])
    pictures = [source.decode(first, camera, [0])[0] for camera in range(len(source.cameras))]
    return Geometry(
        cameras=source.cameras,
        shapes=tuple((int(p.shape[0]), int(p.shape[1]), int(p.shape[2])) for p in pictures),
        kinds=tuple(str(picture.dtype).removeprefix("torch.") for picture in pictures),
        buffers=1,
        steps=int(source.lengths.sum()),
    )


def _in_turns(source: VideoSource, all_of_it: Geometry, n_bytes: int) -> Geometry:
    """Room for some episodes at a time."""
    per_step = all_of_it.step_bytes + len(all_of_it.cameras)
    steps = (n_bytes - 2 * 4096) // (BUFFERS * per_step)
    longest = int(source.lengths.max())
    if longest > steps:
        need = BUFFERS * longest * per_step + 2 * 4096
        raise ValueError(
            f"environment variable {POOL} allows {_gib(n_bytes)}; a pool of this dataset takes at least"
            f" {_gib(need)}, {BUFFERS} times its longest episode ({longest} frames). Set it to more, or to"
            f" smaller pictures, such as {POOL}={max(1, round(n_bytes / 2**30))}GiB:240x320"
        )
    return Geometry(all_of_it.cameras, all_of_it.shapes, all_of_it.kinds, BUFFERS, int(steps))


def _region(reader: Any, source: VideoSource, geometry: Geometry, budget: PoolBudget) -> SharedRegion:
    """Where the frames go: memory, a file that stays if it holds all, else one that goes with the process."""

    def key() -> str:
        files = [*fingerprint.data_files(reader.root), *source.files()]
        selected = np.flatnonzero(source.lengths).tolist()
        starts = [
            reader._meta.episodes[episode][f"videos/{camera}/from_timestamp"]
            for episode in selected
            for camera in source.cameras
        ]
        about = (
            FORMAT,
            geometry,
            selected,
            starts,
            str(source.backend),
            source.tolerance_s,
            av.library_versions,
            platform.node(),
        )
        return fingerprint.of_files(reader.root, files, about)

    def build() -> SharedRegion:
        if budget.folder is not None:
            return SharedRegion.nameless_in(budget.folder, geometry.n_bytes)
        _refuse_more_than_there_is(geometry.n_bytes)  # here: what another rank has made needs no more
        return SharedRegion.create(geometry.n_bytes)

    if budget.folder is not None and geometry.buffers == 1:
        budget.folder.mkdir(parents=True, exist_ok=True)
        with locked(budget.folder / "lock"):  # two ranks may come at once
            return _kept_file(budget.folder, f"{key()}{_SUFFIX}", geometry.n_bytes, budget.n_bytes)
    return find_or_build(lambda: f"frames {key()}", build)


def _kept_file(folder: Path, name: str, n_bytes: int, limit: int) -> SharedRegion:
    """The cache file of this dataset; files that nobody uses make room, the least recently used first."""
    import fcntl

    others = sorted(
        (file for file in folder.glob(f"*{_SUFFIX}") if file.name != name),
        key=lambda file: file.stat().st_mtime,
    )
    taken = sum(file.stat().st_size for file in others)
    for file in others:
        if taken + n_bytes <= limit:
            break
        size = file.stat().st_size
        with suppress(OSError), open(file, "r+b") as used:
            fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever uses it holds a shared one
            file.unlink()
            taken -= size
    if taken + n_bytes > limit:
        raise NoRoomError(
            f"{folder} holds {_gib(taken)} of other datasets in use; with {_gib(n_bytes)} more it would"
            f" exceed the {_gib(limit)} of {POOL}"
        )
    region = SharedRegion.open_file(folder / name, n_bytes)
    fcntl.flock(region.descriptor, fcntl.LOCK_SH)
    (folder / name).touch()
    return region


def _taken(root: Path, episodes: frozenset[int]) -> int:
    """What the living pools of this process hold.

    `lerobot-train` with a held-out part opens the whole dataset first, to cut it, and never reads it: a pool
    that served nothing gives its share to those that hold some of its episodes.
    """
    for held in list(_held):
        pool = held.pool()
        if pool is None:
            _held.remove(held)
        elif held.root == root and held.episodes > episodes and not pool.served:
            pool.arena = None
            _held.remove(held)
    return sum(held.n_bytes for held in _held)


def _refuse_more_than_there_is(n_bytes: int) -> None:
    free = memory_left()
    if free is not None and n_bytes > free:
        raise ValueError(
            f"environment variable {POOL} asks for {_gib(n_bytes)} of memory for this dataset, and this"
            f" machine has {_gib(free)} left; lower it, name a size (…GiB:240x320) or use a disk (disk:…GiB)"
        )


def memory_left() -> int | None:
    """Bytes that may still be taken, by the machine and by the control group; `None` if unknown."""
    left = []
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        left.append(int(text.partition("MemAvailable:")[2].split()[0]) * 1024)
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="utf-8"))
        left.append(limit - int((group / "memory.current").read_text(encoding="utf-8")))
    return min(left) if left else None


def _described(source: VideoSource, geometry: Geometry, budget: PoolBudget, n_episodes: int) -> str:
    where = f"files in {budget.folder}" if budget.folder else "memory"
    sizes = ", ".join(sorted({f"{h}x{w}" for _, h, w in geometry.shapes}))
    if geometry.buffers == 1:
        what = f"all {n_episodes} episodes, each decoded once"
    else:
        what = (
            f"{geometry.buffers * geometry.steps} of {int(source.lengths.sum())} frames at a time of"
            f" {n_episodes} episodes, refreshed within each epoch"
        )
    return (
        f"camera pictures from {where} ({POOL}): {what}; {len(source.cameras)} cameras at {sizes},"
        f" at most {_gib(geometry.n_bytes)} of {_gib(budget.n_bytes)}"
    )


def _without(reader: Any, reason: str) -> EpisodePool | None:
    logger.warning("lerobot_ext: %s is read without a pool (%s): %s", reader.root, POOL, reason)
    return None


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**27 else f"{n_bytes / 2**20:.2f} MiB"
