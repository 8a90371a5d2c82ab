# SPDX-License-Identifier: Apache-2.0
"""Recordings that are killed at a chosen moment, for the tests of `lerobot-ext repair`.

A recording runs in a forked child, which sends itself SIGKILL: nothing is flushed, closed or cleaned up, as
after a power loss, and LeRobot need not be imported again.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lerobot.datasets import dataset_metadata, dataset_writer
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from progress_locks import own_progress_lock

from lerobot_ext.data import episode_journal

LENGTHS = (7, 5, 6)
CAMERA = "observation.images.top"
SMALL_FILES = {"chunks_size": 1, "data_files_size_in_mb": 1e-4, "video_files_size_in_mb": 1e-4}

# How datasets differ: cameras as video, images, video encoded while recording, or none; many small files.
KINDS = {
    "video": {"use_videos": True},
    "image": {"use_videos": False},
    "streaming": {"use_videos": True, "streaming_encoding": True},
    "joints": {"use_videos": False},
    "batch": {"use_videos": True, "batch_encoding_size": 4},
    "batch_of_two": {"use_videos": True, "batch_encoding_size": 2},
    "small_files": {"use_videos": True, **SMALL_FILES},
    "image_writer": {"use_videos": True, "image_writer_threads": 2},
}


def features(kind: str) -> dict:
    six = {"dtype": "float32", "shape": (6,), "names": list("abcdef")}
    found = {"observation.state": six, "action": six}
    if kind != "joints":
        dtype = "image" if kind == "image" else "video"
        found[CAMERA] = {"dtype": dtype, "shape": (64, 64, 3), "names": ["height", "width", "channels"]}
    return found


def frame(kind: str, episode: int, index: int) -> dict:
    """A frame like no other, and the same in every recording."""
    noise = np.random.default_rng((episode, index))
    made = {
        "observation.state": noise.normal(size=6).astype(np.float32),
        "action": noise.normal(size=6).astype(np.float32),
        "task": f"task {episode % 2}",
    }
    if kind != "joints":
        made[CAMERA] = noise.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return made


def record(root: Path, kind: str, episodes: int = len(LENGTHS), *, resume: bool = False) -> None:
    """Record whole episodes and finish the dataset."""
    more = {
        key: value for key, value in KINDS[kind].items() if key != "use_videos" and key not in SMALL_FILES
    }
    if resume:
        dataset = LeRobotDataset.resume("me/cut", root=root, **more)
    else:
        sizes = {key: value for key, value in KINDS[kind].items() if key in SMALL_FILES}
        dataset = LeRobotDataset.create(
            "me/cut", 30, features(kind), root=root, use_videos=kind not in ("image", "joints"), **more
        )
        if sizes:
            dataset.meta.update_chunk_settings(**sizes)
    first = dataset.meta.total_episodes
    for episode in range(first, first + episodes):
        for index in range(LENGTHS[episode % len(LENGTHS)]):
            dataset.add_frame(frame(kind, episode, index))
        dataset.save_episode()
    dataset.finalize()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forked(run: Callable[[], object]) -> int:
    """Run `run` in a child; its process id."""
    child = os.fork()
    if child == 0:
        try:
            own_progress_lock()
            run()
        finally:
            os._exit(0)
    return child


def killed(moment: Callable[[], None], run: Callable[[], None]) -> None:
    """Run `run` in a child that was prepared by `moment` to kill itself; fails if it survives."""
    _, status = os.waitpid(forked(lambda: (moment(), run())), 0)
    assert os.WIFSIGNALED(status), "the recording ended before the moment at which it should be killed"


def on_call(owner: object, name: str, call: int, *, after: bool = False) -> None:
    """Die when `owner.name` is called for the `call`-th time, before it runs or after."""
    original = getattr(owner, name)
    calls = 0

    def counting(*words, **named):
        nonlocal calls
        calls += 1
        if calls == call and not after:
            die()
        result = original(*words, **named)
        if calls == call and after:
            die()
        return result

    setattr(owner, name, counting)


def half_written(owner: object, name: str, call: int, relative: str) -> None:
    """Die in the `call`-th call of a function that writes a file, with half of it on the disk."""
    original = getattr(owner, name)
    calls = 0

    def halving(value, root):
        nonlocal calls
        calls += 1
        original(value, root)
        if calls == call:
            path = Path(root) / relative
            os.truncate(path, path.stat().st_size // 2)
            die()

    setattr(owner, name, halving)


# Every moment leaves the first two episodes saved; the third is cut off.
Writer = dataset_writer.DatasetWriter
MOMENTS: dict[str, Callable[[], None]] = {
    "while frames come in": lambda: on_call(Writer, "add_frame", sum(LENGTHS[:2]) + 4),
    "when the task is written": lambda: on_call(
        dataset_metadata.LeRobotDatasetMetadata, "get_task_index", 13
    ),
    "between rows and video": lambda: on_call(Writer, "_save_episode_data", 3, after=True),
    "between video and metadata": lambda: on_call(Writer, "_save_episode_video", 3, after=True),
    "before info.json": lambda: on_call(dataset_metadata, "write_info", 4),
    "within info.json": lambda: half_written(dataset_metadata, "write_info", 4, "meta/info.json"),
    "between info.json and stats.json": lambda: on_call(dataset_metadata, "write_stats", 3),
    "within stats.json": lambda: half_written(dataset_metadata, "write_stats", 3, "meta/stats.json"),
    "before the journal": lambda: on_call(episode_journal.EpisodeJournal, "episode_saved", 3),
    "within the journal": lambda: on_call(episode_journal, "meta_part", 3),
}
# These come after the third episode is in the journal.
LATE_MOMENTS: dict[str, Callable[[], None]] = {
    "before the end": lambda: on_call(Writer, "flush_pending_videos", 1),
    "between data and metadata footers": lambda: on_call(
        dataset_metadata.LeRobotDatasetMetadata, "finalize", 1
    ),
    "with the journal still there": lambda: on_call(episode_journal.EpisodeJournal, "finished", 1),
}
