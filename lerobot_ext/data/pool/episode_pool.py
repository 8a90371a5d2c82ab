# SPDX-License-Identifier: Apache-2.0
"""Episodes decoded in memory that all workers share: all, or some at a time, refreshed by an epoch seed."""

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from lerobot_ext.data.pool.arena import Arena
from lerobot_ext.data.pool.schedule import BUFFERS, WINDOW, Parts, cut

_EPOCH, _SEED, _BASE, _NEWEST, _OWNER = range(5)
_IDLE_S = 0.1
_Job = tuple[int, int, int, int, int]

logger = logging.getLogger(__name__)


class Source(Protocol):
    """What decodes; `VideoSource` is one."""

    timestamps: torch.Tensor
    meta: Any
    run: int
    lengths: npt.NDArray[np.int64]
    cameras: tuple[str, ...]

    def decode(self, episode: int, camera: int, steps: Sequence[int]) -> torch.Tensor:
        """(T, C, H, W) frames `steps` of a camera in an episode."""


class EpisodePool:
    """Pictures of episodes, decoded once, in memory shared by every process that has the pool.

    Any frame may be asked for at any time: one that is not in memory is decoded for whoever asks, and kept. A
    thread of each process that asks decodes episodes as a whole meanwhile; two never decode the same one.

    If the arena has one buffer, everything stays. If it has `BUFFERS`, the pool holds the episodes of an
    epoch in turn: `begin_epoch` says which epoch, `active` which episodes are held now, `advance` goes on.
    What is drawn by `schedule.draw` goes on by itself.

    Args:
        source (`Source`): Decodes.
        arena (`Arena`): Where frames are kept.

    Example:
        Episodes of a policy that samples for itself, refreshed each epoch:

        ```python
        pool = open_pool(dataset, "8GiB:96x96")
        for epoch in range(10):
            pool.begin_epoch(epoch, seed=0)
            while True:
                for episode in pool.active():
                    top = pool.frames(episode, "observation.images.top", range(16))  # (16, 3, 96, 96)
                if not pool.advance():
                    break
        ```
    """

    def __init__(self, source: Source, arena: Arena | None) -> None:
        self.source, self.arena = source, arena
        self.served = False
        self._all = (
            cut(source.lengths, arena.geometry.steps, 0, 0) if arena and arena.geometry.buffers == 1 else None
        )
        self._known: tuple[tuple[int, int], Parts] | None = None
        self._next: tuple[tuple[int, int], Parts] | None = None
        self._filler: _Filler | None = None

    @property
    def holds_all(self) -> bool:
        """Whether all episodes stay, so that it does not matter which are asked for."""
        return self._all is not None

    # --- which episodes ---

    def begin_epoch(self, epoch: int, seed: int = 0, *, newest: int = WINDOW - 1) -> Parts:
        """Hold the episodes of this epoch from now on, part after part. Of several ranks, all may say so.

        Args:
            epoch (`int`): From 0.
            seed (`int`, *optional*, defaults to 0): Of the run; both decide on the order of the episodes.
            newest (`int`, *optional*): The last part that is drawn from at first, for a resumed epoch.

        Returns:
            How the episodes are cut into parts.
        """
        if self._all is not None or self.arena is None:
            return self._all or cut(self.source.lengths, int(max(1, self.source.lengths.sum())), seed, epoch)
        parts = self._cut(seed, epoch)
        state = self.arena.state
        with self.arena.held():
            same = state[_EPOCH] == epoch + 1 and state[_SEED] == seed
            if not same or state[_OWNER] == os.getpid():  # another rank may have said so already
                follows = state[_EPOCH] == epoch and state[_SEED] == seed
                count = self._cut(int(state[_SEED]), int(state[_EPOCH]) - 1).count if state[_EPOCH] else 0
                # Part 0 of the epoch that follows may be there already, under the next number. Any other
                # epoch must not take it for its own.
                base = int(state[_BASE]) + count + (0 if follows else 1)
                state[_EPOCH] = 0
                state[_BASE], state[_SEED], state[_OWNER] = base, seed, os.getpid()
                state[_NEWEST] = min(newest, parts.count - 1)
                state[_EPOCH] = epoch + 1
        return parts

    def active(self) -> list[int]:
        """The episodes that frames are to be drawn from now."""
        if self._all is not None or self.arena is None:
            return [int(episode) for episode in np.flatnonzero(self.source.lengths)]
        now = self._now()
        if now is None:
            return []
        parts, _, newest = now
        inside = (parts.part > newest - WINDOW) & (parts.part <= newest) & (parts.part >= 0)
        return [int(episode) for episode in np.flatnonzero(inside)]

    def advance(self) -> bool:
        """Let go of the oldest part and draw from the next.

        Returns:
            Whether there was a next; if not, the epoch is over.
        """
        now = None if self._all is not None else self._now()
        if now is None or self.arena is None or now[2] >= now[0].count - 1:
            return False
        self.arena.state[_NEWEST] = now[2] + 1
        return True

    # --- frames ---

    def frames(self, episode: int, camera: str | int, steps: Sequence[int]) -> torch.Tensor:
        """Frames of one camera.

        Args:
            episode (`int`): Which episode.
            camera (`str | int`): Which camera, by key or number.
            steps (`Sequence[int]`): (T,) frame numbers in the episode.

        Returns:
            (T, C, H, W) uint8, or uint16 codes of a depth camera; yours to write to.

        Raises:
            FrameTimestampError: A frame that is not there cannot be decoded.
        """
        number = self.source.cameras.index(camera) if isinstance(camera, str) else camera
        return self.pictures(episode, {number: list(steps)})[number]

    def pictures(self, episode: int, wanted: Mapping[int, Sequence[int]]) -> dict[int, torch.Tensor]:
        """Frames of several cameras; what is not there is decoded side by side.

        Args:
            episode (`int`): Which episode.
            wanted (`Mapping[int, Sequence[int]]`): Frame numbers by camera number.

        Returns:
            By camera number, as `frames` gives them.
        """
        self.served = True
        place = self._place(episode)
        if place is None:
            return self._side_by_side(
                episode, {camera: (list(steps), None) for camera, steps in wanted.items()}
            )
        arena, buffer, tag, first = place
        found: dict[int, torch.Tensor] = {}
        absent: dict[int, tuple[list[int], Any]] = {}
        for camera, steps in wanted.items():
            shape, kind = arena.geometry.shapes[camera], arena.geometry.kinds[camera]
            found[camera] = torch.empty((len(steps), *shape), dtype=getattr(torch, kind))
            places = np.asarray(steps, dtype=np.int64) + first
            missing = arena.read(buffer, tag, camera, places, found[camera])
            if len(missing):
                absent[camera] = [steps[index] for index in missing], missing
        if absent:
            for camera, decoded in self._side_by_side(episode, absent).items():
                steps, missing = absent[camera]
                found[camera].numpy()[missing] = decoded.numpy()  # torch cannot do that with uint16
                arena.write(buffer, tag, camera, [step + first for step in steps], decoded)
        self._fill_meanwhile(bool(absent))
        return found

    def fill(self) -> int:
        """Decode now all that is to be held at this moment, instead of meanwhile.

        Returns:
            Frames that were decoded, each camera's counted.
        """
        return sum(self._fill_job(*job) for job in self._jobs())

    def filled(self) -> bool:
        """Whether all that is to be held at this moment is there."""
        return not any(len(self._missing(*job)) for job in self._jobs())

    def _side_by_side(
        self, episode: int, wanted: dict[int, tuple[list[int], Any]]
    ) -> dict[int, torch.Tensor]:
        jobs = [(camera, steps) for camera, (steps, _) in wanted.items()]
        if len(jobs) == 1:
            camera, steps = jobs[0]
            return {camera: self.source.decode(episode, camera, steps)}
        with ThreadPoolExecutor(len(jobs)) as threads:
            decoded = threads.map(lambda job: self.source.decode(episode, *job), jobs)
            return dict(zip(wanted, decoded, strict=True))

    # --- where they are ---

    def parts(self, epoch: int, seed: int = 0) -> Parts:
        """How an epoch's episodes are cut, whether it has begun or not."""
        return self._all or self._cut(seed, epoch)

    def _cut(self, seed: int, epoch: int) -> Parts:
        """An epoch's parts; those of the current and the next are kept."""
        for kept in (self._known, self._next):
            if kept is not None and kept[0] == (seed, epoch):
                return kept[1]
        assert self.arena is not None
        parts = cut(self.source.lengths, self.arena.geometry.steps, seed, epoch)
        self._known, self._next = self._next, ((seed, epoch), parts)
        return parts

    def _now(self) -> tuple[Parts, int, int] | None:
        """The current epoch's parts, the number of its first, and the newest that is drawn from."""
        if self.arena is None:
            return None
        state = self.arena.state
        for _ in range(100):
            epoch, seed, base, newest = (int(state[word]) for word in (_EPOCH, _SEED, _BASE, _NEWEST))
            if not epoch and not base:
                return None
            if epoch and (epoch, seed, base) == tuple(int(state[word]) for word in (_EPOCH, _SEED, _BASE)):
                return self._cut(seed, epoch - 1), base, newest
        return None  # somebody is changing it, or died while doing so

    def _place(self, episode: int) -> tuple[Arena, int, int, int] | None:
        """Arena, buffer, tag and first slot of an episode; `None` if it is not to be held."""
        if self.arena is None:
            return None
        if self._all is not None:
            return (self.arena, 0, 0, int(self._all.slot[episode])) if self._all.part[episode] >= 0 else None
        now = self._now()
        if now is None or now[0].part[episode] < 0:
            return None
        parts, base, newest = now
        part = int(parts.part[episode])
        if part > newest:
            # Frames are drawn in order: that this part is asked for says how far they are.
            self.arena.state[_NEWEST] = part
        return self.arena, (base + part) % BUFFERS, base + part + 1, int(parts.slot[episode])

    def _jobs(self) -> list[_Job]:
        """What is to be held now: episode, camera, buffer, tag and first slot, in the order of need."""
        cameras = range(len(self.source.cameras))
        if self.arena is None:
            return []
        if self._all is not None:
            used = np.flatnonzero(self._all.part >= 0).tolist()
            return [(e, c, 0, 0, int(self._all.slot[e])) for e in used for c in cameras]
        now = self._now()
        if now is None:
            return []
        parts, base, newest = now
        jobs = []
        oldest = max(0, newest - WINDOW + 1)
        for part in range(oldest, oldest + BUFFERS):
            of, number = (parts, part) if part < parts.count else (self._following(), part - parts.count)
            if number and of is not parts:
                break  # of the epoch that follows only the first part
            buffer, tag = (base + part) % BUFFERS, base + part + 1
            self.arena.give(buffer, tag)
            for episode in np.flatnonzero(of.part == number).tolist():
                jobs += [(episode, camera, buffer, tag, int(of.slot[episode])) for camera in cameras]
        return jobs

    def _following(self) -> Parts:
        assert self.arena is not None
        state = self.arena.state
        return self._cut(int(state[_SEED]), int(state[_EPOCH]))

    # --- filling ---

    def _missing(self, episode: int, camera: int, buffer: int, tag: int, first: int) -> npt.NDArray[np.int64]:
        assert self.arena is not None
        n = int(self.source.lengths[episode])
        return self.arena.missing(buffer, tag, camera, first, n) - first

    def _fill_job(
        self,
        episode: int,
        camera: int,
        buffer: int,
        tag: int,
        first: int,
        stop: "threading.Event | None" = None,
    ) -> int:
        """Decode what an episode lacks of a camera, unless another process does; how many frames it was."""
        if not len(self._missing(episode, camera, buffer, tag, first)) or self.arena is None:
            return 0
        decoded = 0
        with self.arena.claimed(episode * len(self.source.cameras) + camera) as mine:
            while mine and not (stop and stop.is_set()):
                steps = self._missing(episode, camera, buffer, tag, first)[: self.source.run].tolist()
                if not steps:
                    break
                frames = self.source.decode(episode, camera, steps)
                self.arena.write(buffer, tag, camera, [step + first for step in steps], frames)
                decoded += len(steps)
            if decoded and not len(self._missing(episode, camera, buffer, tag, first)):
                self.arena.save(buffer, camera, first, int(self.source.lengths[episode]))
        return decoded

    def _fill_meanwhile(self, something_was_missing: bool) -> None:
        if self._filler is None or self._filler.pid != os.getpid():
            if self._all is not None and not something_was_missing:
                return  # most likely full: no thread for nothing
            self._filler = _Filler(self)
        elif not self.holds_all:
            self._filler.wake()

    def close(self) -> None:
        """Stop decoding ahead in this process. What is there stays readable."""
        if self._filler is not None and self._filler.pid == os.getpid():
            self._filler.stop()
        self._filler = None

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "arena": self.arena}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["source"], state["arena"])  # type: ignore[misc]


class _Filler:
    """A thread that decodes episodes of a pool as a whole, until all are there or the process ends."""

    def __init__(self, pool: EpisodePool) -> None:
        self.pid = os.getpid()
        self._pool = weakref.ref(pool)
        self._stop, self._woken = threading.Event(), threading.Event()
        self._failed: set[tuple[int, int]] = set()
        self._thread = threading.Thread(target=self._run, name="lerobot_ext pool", daemon=True)
        self._thread.start()
        _fillers.add(self)

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def stop(self) -> None:
        """Return when the thread has ended: it must not decode while the interpreter goes away."""
        self._stop.set()
        self._woken.set()
        if self.pid == os.getpid() and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            pool = self._pool()
            if pool is None:
                return
            busy = self._some_jobs(pool)
            if not busy and pool.holds_all and self._all_done(pool):
                return
            del pool
            if not busy:
                self._woken.wait(_IDLE_S)
                self._woken.clear()

    def _some_jobs(self, pool: EpisodePool) -> bool:
        """Decode what is to be held now; whether there was anything to do."""
        busy = False
        for job in self._in_my_order(pool):
            if self._stop.is_set():
                break
            if job[:2] not in self._failed:
                busy |= self._try(pool, job) > 0
                if busy and not pool.holds_all:
                    break  # what is needed may be something else by now
        return busy

    def _in_my_order(self, pool: EpisodePool) -> list[_Job]:
        """Of a pool that holds all, another start for each process; else in the order of need."""
        jobs = pool._jobs()
        start = self.pid * 7919 % len(jobs) if pool.holds_all and jobs else 0
        return jobs[start:] + jobs[:start]

    def _all_done(self, pool: EpisodePool) -> bool:
        return not any(len(pool._missing(*job)) for job in pool._jobs() if job[:2] not in self._failed)

    def _try(self, pool: EpisodePool, job: _Job) -> int:
        try:
            return pool._fill_job(*job, stop=self._stop)
        except Exception as error:  # noqa: BLE001 - whoever needs the frame gets this error, with its place
            self._failed.add(job[:2])
            logger.warning(
                "lerobot_ext: episode %d of %s is not decoded ahead: %s: %s",
                job[0],
                pool.source.cameras[job[1]],
                type(error).__name__,
                " ".join(str(error).split())[:200],
            )
            return 0


_fillers: "weakref.WeakSet[_Filler]" = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for filler in list(_fillers):
        filler.stop()
