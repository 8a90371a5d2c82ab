# SPDX-License-Identifier: Apache-2.0
"""The one place where LeRobot's `DatasetWriter` is changed: it tells observers what becomes of an episode.

Observers (`WriterObserver`) add to a recording without knowing LeRobot's writer: `episode_journal` makes it
survive a power loss, a robot plugin can note things beside each frame. An observer that fails is logged once
and left out from then on: it must never cost a recording. Only before anything is recorded may one refuse it,
by `RecordingRefusedError`.

Apart from telling, two things are changed, both for the sake of a sudden end:

- an episode's video is joined to the file of the episodes before it in a file of its own, which then takes
  the old one's place. Stock moves it from the temporary folder, and where that is another file system it
  copies over the old file: a kill at that moment costs the earlier episodes too;
- the parquet writer keeps the table it wrote last, so that observers get an episode's rows without encoding
  its images again.

`uninstall` puts everything back. Other LeRobot versions than those tested are left alone, with one line.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets import dataset_writer
from lerobot.datasets.dataset_writer import DatasetWriter

from lerobot_ext.data.durable import replacing
from lerobot_ext.patches import Patch, Place

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedEpisode:
    """An episode that LeRobot has just saved; its parquet files stay without footers until the end.

    Args:
        root (`Path`): The dataset's folder.
        index (`int`): Episode index.
        row (`dict[str, Any]`): Its row of `meta/episodes`, plain Python values.
        table (`pyarrow.Table`): Its rows of the data file, images embedded.
        data_path (`Path`): The data file they were written to.
        video_paths (`list[Path]`): The files that hold its videos now; empty before a batch is encoded.
    """

    root: Path
    index: int
    row: dict[str, Any]
    table: pa.Table
    data_path: Path
    video_paths: list[Path]


class RecordingRefusedError(RuntimeError):
    """Raised by `WriterObserver.frame_added` at a first frame: recording now would destroy what is there."""


class WriterObserver:
    """What a `DatasetWriter` tells; override what you need. `writer` identifies the recording."""

    def adding_frame(self, writer: DatasetWriter) -> None:
        """A frame is about to be added."""

    def frame_added(self, writer: DatasetWriter, frame_index: int) -> None:
        """A frame was added to the episode that is being recorded."""

    def busy(self, writer: DatasetWriter, *, with_finish: bool) -> None:
        """The writer starts to save an episode, or to finish the dataset (`with_finish`)."""

    def idle(self, writer: DatasetWriter) -> None:
        """What `busy` announced is over, successfully or not. May raise `KeyboardInterrupt` after a save."""

    def episode_saved(self, writer: DatasetWriter, episode: SavedEpisode) -> None:
        """An episode is saved."""

    def episode_cleared(self, writer: DatasetWriter) -> None:
        """The episode that was being recorded is thrown away: it will be recorded again."""

    def finished(self, writer: DatasetWriter) -> None:
        """The dataset is complete: footers written, videos encoded."""


_observers: list[WriterObserver] = []
_failed: set[int] = set()
_patch = Patch("dataset writer", lost="recordings are not journaled")


def observe(observer: WriterObserver, *, last: bool = False) -> None:
    """Tell `observer` from now on, once; the hooks are installed if they are not yet.

    Args:
        observer (`WriterObserver`): Whom to tell.
        last (`bool`, *optional*, defaults to `False`): Of an episode that is saved, after all others.
    """
    if observer not in _observers:
        _observers.insert(len(_observers) if last or not _observers else 0, observer)
    install()


def forget(observer: WriterObserver) -> None:
    """Tell `observer` nothing any more."""
    if observer in _observers:
        _observers.remove(observer)
    _failed.discard(id(observer))


def install() -> bool:
    """Put the hooks in; calling it again changes nothing.

    Returns:
        Whether they are in place: not with a LeRobot outside the tested window, which is logged.
    """
    return _patch.install(_REPLACEMENTS)


def uninstall() -> None:
    """Give LeRobot its own code back."""
    _patch.uninstall()


def _tell(event: str, *words: Any, **named: Any) -> None:
    """Call every observer's method `event`; one that fails is not called again."""
    for observer in list(_observers):
        if id(observer) in _failed:
            continue
        try:
            getattr(observer, event)(*words, **named)
        except RecordingRefusedError:
            raise
        except Exception as error:
            _failed.add(id(observer))
            logger.exception(
                "lerobot_ext: %s stopped working at %s (%s: %s); the recording goes on without it.",
                type(observer).__name__,
                event,
                type(error).__name__,
                error,
            )


def _add_frame(self: DatasetWriter, frame: dict[str, Any]) -> None:
    _tell("adding_frame", self)
    _patch.stock("add_frame")(self, frame)
    _tell("frame_added", self, self.episode_buffer["size"] - 1)


def _save_episode(self: DatasetWriter, *words: Any, **named: Any) -> None:
    _tell("busy", self, with_finish=False)
    n_before = self._meta.total_episodes
    try:
        try:
            _patch.stock("save_episode")(self, *words, **named)
        finally:
            # Saved is saved: encoding a batch of videos comes after it, and may fail.
            episode = _saved(self) if self._meta.total_episodes > n_before else None
            if episode is not None:
                _tell("episode_saved", self, episode)
    finally:
        _tell("idle", self)


def _clear_episode_buffer(self: DatasetWriter, *words: Any, **named: Any) -> None:
    _patch.stock("clear_episode_buffer")(self, *words, **named)
    _tell("episode_cleared", self)


def _finalize(self: DatasetWriter) -> None:
    if getattr(self, "_finalized", False):
        return
    _tell("busy", self, with_finish=True)
    try:
        _patch.stock("finalize")(self)
        _tell("finished", self)
    finally:
        _tell("idle", self)


def _saved(writer: DatasetWriter) -> SavedEpisode | None:
    """The episode that `writer` saved last; `None` if its table was taken already."""
    parquet = writer._pq_writer
    table = getattr(parquet, "last_table", None)
    if table is None:
        return None
    parquet.last_table = None  # images are large
    row = {key: _plain(value) for key, value in writer._meta.latest_episode.items()}
    videos = [
        writer._root
        / writer._meta.video_path.format(
            video_key=key,
            chunk_index=row[f"videos/{key}/chunk_index"],
            file_index=row[f"videos/{key}/file_index"],
        )
        for key in writer._meta.video_keys
        if f"videos/{key}/chunk_index" in row
    ]
    return SavedEpisode(
        Path(writer._root), int(row["episode_index"]), row, table, Path(parquet.where), videos
    )


def _plain(value: Any) -> Any:
    """A value of LeRobot's buffered row as it writes it to parquet: out of its list, arrays as lists."""
    value = value[0] if isinstance(value, list) else value
    return value.tolist() if hasattr(value, "tolist") else value


class _RememberingParquetWriter(pq.ParquetWriter):  # type: ignore[misc]
    """A `ParquetWriter` that keeps the table it wrote last."""

    last_table: pa.Table | None = None

    def write_table(self, table: pa.Table, row_group_size: int | None = None) -> None:
        super().write_table(table, row_group_size)
        self.last_table = table


def _concatenate_video_files(inputs: list[Path | str], output: Path, *words: Any, **named: Any) -> None:
    """Stock's function, with the result put in place at once instead of copied over the old file."""
    with replacing(Path(output)) as new:
        _patch.stock("concatenate_video_files")(inputs, new, *words, **named)


_REPLACEMENTS: dict[Place, Any] = {
    (DatasetWriter, "add_frame"): _add_frame,
    (DatasetWriter, "save_episode"): _save_episode,
    (DatasetWriter, "clear_episode_buffer"): _clear_episode_buffer,
    (DatasetWriter, "finalize"): _finalize,
    (dataset_writer, "concatenate_video_files"): _concatenate_video_files,
    (dataset_writer, "pq"): SimpleNamespace(ParquetWriter=_RememberingParquetWriter),
}
