# SPDX-License-Identifier: Apache-2.0
"""What a dataset's item costs besides decoding: looking up where its frames lie, and threads for its cameras.

LeRobot's `DatasetReader._query_videos` reads the same row of the episodes' table once and once more for each
camera, 0.3 ms each, and starts a thread for each camera, in a worker among workers too. Its code stays; it is
given a table that answers at once, and something else to run its cameras on.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata


class EpisodeVideos:
    """The columns `videos/…` of a dataset's episodes, as quick to read as a list of rows.

    Args:
        episodes (`datasets.Dataset`): The table; its values are taken over as they are.
    """

    def __init__(self, episodes: Any) -> None:
        names = [name for name in episodes.column_names if name.startswith("videos/")]
        table = episodes.select_columns(names).with_format("arrow")[:]
        self._columns = {name: table.column(name).to_numpy() for name in names}
        self._length = len(episodes)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, episode: int) -> dict[str, Any]:
        """An episode's row, in Python's own numbers."""
        return {name: column[episode].item() for name, column in self._columns.items()}


_quick: WeakKeyDictionary[LeRobotDatasetMetadata, tuple[Any, EpisodeVideos | None]] = WeakKeyDictionary()


def with_quick_episodes(meta: LeRobotDatasetMetadata) -> LeRobotDatasetMetadata:
    """A dataset's metadata as it is now, but for a quicker table of episodes; to be read, not kept."""
    table, quick = _quick.get(meta, (None, None))
    if table is None or table is not meta.episodes:
        table = meta.episodes
        # Holes would change the type of their column; a table that is not there yet is loaded by LeRobot.
        dense = table is not None and not any(
            table.data.column(name).null_count for name in table.column_names if name.startswith("videos/")
        )
        quick = EpisodeVideos(table) if dense else None
        _quick[meta] = table, quick
    if quick is None:
        return meta
    copy = object.__new__(type(meta))
    copy.__dict__.update(meta.__dict__, episodes=quick)
    return copy


def cameras_at_once() -> int:
    """How many cameras this process decodes side by side: its share of the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    worker = torch.utils.data.get_worker_info()
    return max(1, cores // worker.num_workers) if worker else cores


class CameraThreads:
    """Stands in for the `ThreadPoolExecutor` of one item: works itself, with a thread less than cameras.

    Args:
        max_workers (`int`): How many calls there will be.
    """

    def __init__(self, max_workers: int) -> None:
        self._threads = min(max_workers, cameras_at_once()) - 1
        self._waiting: deque[tuple[_Answer, Callable[..., Any], tuple[Any, ...]]] = deque()

    def __enter__(self) -> "CameraThreads":
        return self

    def __exit__(self, *_: object) -> None:
        self.work()

    def submit(self, function: Callable[..., Any], *words: Any) -> "Future[Any]":
        """Have a call made; at the latest when its, or another's, result is asked for."""
        answer = _Answer(self)
        self._waiting.append((answer, function, words))
        return answer

    def work(self) -> None:
        """Make all calls that wait, and return when they are done."""
        if not self._waiting:
            return
        helpers = [threading.Thread(target=self._work_off) for _ in range(self._threads)]
        for helper in helpers:
            helper.start()
        self._work_off()
        for helper in helpers:
            helper.join()

    def _work_off(self) -> None:
        with suppress(IndexError):
            while True:
                answer, function, words = self._waiting.popleft()
                answer.make(function, words)


class _Answer(Future[Any]):
    """The result of a call that is not made before somebody wants one."""

    def __init__(self, threads: CameraThreads) -> None:
        super().__init__()
        self._work = threads.work

    def result(self, timeout: float | None = None) -> Any:
        """What the call returned, or raised."""
        self._work()
        return super().result(timeout)

    def make(self, function: Callable[..., Any], words: tuple[Any, ...]) -> None:
        """Make the call."""
        try:
            self.set_result(function(*words))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asks for the result
            self.set_exception(error)
