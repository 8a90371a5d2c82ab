# SPDX-License-Identifier: Apache-2.0
"""Keeps a copy of every saved episode until its dataset is complete, so that `lerobot-ext repair` can use it.

LeRobot writes the footers of a dataset's parquet files when a recording ends, and keeps the last ten rows of
`meta/episodes` in memory: a kill or a power loss takes every episode since the start. While a recording runs
this module keeps, in `meta/journal`:

    session.json                   process that records
    info.json, tasks.parquet       as of the last saved episode
    episode_000007.data.parquet    rows of one episode, images embedded, until its data file is complete
    episode_000007.meta.parquet    its row of meta/episodes; written last, so what has one is whole

Every file appears whole and is flushed to the disk, and so is the episode's video. When LeRobot has finished
the dataset the folder is removed. `LEROBOT_EXT_JOURNAL=off` keeps it from being written.
"""

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.dataset_writer import DatasetWriter

from lerobot_ext.data import writer_hooks
from lerobot_ext.data.durable import flush_to_disk, replacing
from lerobot_ext.data.journal_files import (
    FOLDER,
    data_part,
    journaled_episodes,
    meta_part,
    write_session,
)
from lerobot_ext.data.writer_hooks import RecordingRefusedError, SavedEpisode, WriterObserver

logger = logging.getLogger(__name__)


class EpisodeJournal(WriterObserver):
    """Writes the journal of every recording of this process."""

    def __init__(self) -> None:
        # Data file of the episode saved last, by recording
        self._data_paths: WeakKeyDictionary[DatasetWriter, Path | None] = WeakKeyDictionary()

    def frame_added(self, writer: DatasetWriter, frame_index: int) -> None:
        """Open the journal at a recording's first frame.

        Raises:
            RecordingRefusedError: Episodes that only the journal holds would be overwritten.
        """
        if writer not in self._data_paths:
            _refuse_to_overwrite(writer)
            self._data_paths[writer] = None
            _open_journal(writer, writer._meta.total_episodes)

    def episode_saved(self, writer: DatasetWriter, episode: SavedEpisode) -> None:
        """Keep the episode."""
        root = episode.root
        if writer not in self._data_paths:  # saved from a ready-made buffer, without frames
            _open_journal(writer, episode.index)
        before = self._data_paths.get(writer)
        self._data_paths[writer] = episode.data_path
        with replacing(data_part(root, episode.index)) as new:
            pq.write_table(episode.table, new)
        for name in ("info.json", "tasks.parquet"):
            _copy_into_journal(root, name)
        for video in episode.video_paths:
            flush_to_disk(video)
            flush_to_disk(video.parent)
        with replacing(meta_part(root, episode.index)) as new:
            pq.write_table(pa.Table.from_pydict({key: [value] for key, value in episode.row.items()}), new)
        if before is not None and before != episode.data_path:
            _forget_rows_before(root, episode.index, before)

    def finished(self, writer: DatasetWriter) -> None:
        """The dataset is complete: remove the journal."""
        if writer not in self._data_paths:
            return
        root = Path(writer._root)
        for folder in ("data", "meta/episodes"):
            for path in (root / folder).glob("*/*.parquet"):
                flush_to_disk(path)
        shutil.rmtree(root / FOLDER, ignore_errors=True)


def _only_journaled(writer: DatasetWriter) -> list[int]:
    """Episodes of an earlier recording that its journal holds and `meta/episodes` does not."""
    n_listed = len(writer._meta.episodes or ())  # as they were read at the start
    return [index for index in journaled_episodes(Path(writer._root)) if index >= n_listed]


def _refuse_to_overwrite(writer: DatasetWriter) -> None:
    """Stop a recording that would write over the data files of a cut-off one.

    `info.json` counts the episodes of a recording that was cut off, `meta/episodes` does not list them, and
    stock resumes all the same: into the very data file that they are in.
    """
    lost = _only_journaled(writer)
    if lost and writer._meta.total_episodes > lost[0]:
        raise RecordingRefusedError(
            f"an earlier recording into {writer._root} was cut off: {len(lost)} episodes (from {lost[0]} on) "
            f"are whole only in its journal, and recording now would overwrite them. Run "
            f"`lerobot-ext repair {writer._root}` first, then record again."
        )


def _open_journal(writer: DatasetWriter, next_episode: int) -> None:
    """Begin an empty journal; one that an earlier recording left is set aside if it alone holds episodes."""
    root = Path(writer._root)
    folder = root / FOLDER
    if _only_journaled(writer):
        aside = folder.with_name(f"journal-{time.strftime('%Y%m%d-%H%M%S')}")
        os.replace(folder, aside)
        logger.warning(
            "lerobot_ext: an earlier recording into %s was cut off and never repaired; what its journal held "
            "is now in %s. Next time run `lerobot-ext repair %s` before you resume.",
            root,
            aside,
            root,
        )
    elif folder.exists():
        shutil.rmtree(folder)
    with replacing(folder / "session.json") as new:
        write_session(new, next_episode)
    _copy_into_journal(root, "info.json")


def _copy_into_journal(root: Path, name: str) -> None:
    if (root / "meta" / name).exists():
        with replacing(root / FOLDER / name) as new:
            shutil.copyfile(root / "meta" / name, new)


def _forget_rows_before(root: Path, episode: int, complete: Path) -> None:
    """LeRobot went on to the next data file: `complete` has its footer, its rows need no copy."""
    flush_to_disk(complete)
    for index in journaled_episodes(root):
        if index < episode:
            data_part(root, index).unlink(missing_ok=True)


JOURNAL: Final = EpisodeJournal()


def start() -> None:
    """Journal every recording of this process from now on; a script of your own calls this once."""
    writer_hooks.observe(JOURNAL, last=True)


def stop() -> None:
    """Undo `start`."""
    writer_hooks.forget(JOURNAL)
