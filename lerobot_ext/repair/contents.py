# SPDX-License-Identifier: Apache-2.0
"""What a LeRobotDataset v3 folder still holds: rows of `meta/episodes`, rows of data files, and its journal.

A parquet file is readable only with the footer that is written last; whatever is unreadable here is looked
for in the journal (`lerobot_ext.data.episode_journal`). Nothing in this module changes anything.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.utils import DEFAULT_EPISODES_PATH, EPISODES_DIR, INFO_PATH

from lerobot_ext.cli.command import CommandError
from lerobot_ext.data import journal_files

Numbers = np.ndarray[Any, Any]

UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError)


@dataclass(frozen=True)
class VideoSpan:
    """Where the frames of one camera of one episode are.

    Args:
        path (`str`): File, relative to the dataset's folder.
        from_s (`float`): Time of the first frame in that file, in seconds.
        to_s (`float`): End of the last one.
    """

    path: str
    from_s: float
    to_s: float


@dataclass(frozen=True)
class Episode:
    """One row of `meta/episodes`.

    Args:
        index (`int`): Episode index.
        length (`int`): Number of frames.
        start (`int`): Index of its first frame in the whole dataset.
        data_path (`str`): Data file, relative to the dataset's folder.
        meta_path (`str`): File of `meta/episodes` that holds, or would have held, the row.
        videos (`dict[str, VideoSpan]`): By camera.
        row (`pyarrow.Table`): The row itself.
        from_journal (`bool`): Whether the row was read from the journal.
    """

    index: int
    length: int
    start: int
    data_path: str
    meta_path: str
    videos: dict[str, VideoSpan]
    row: pa.Table = field(repr=False, compare=False)
    from_journal: bool


@dataclass(frozen=True)
class Info:
    """`meta/info.json`.

    Args:
        raw (`dict`): Its content.
        problem (`str`): Why the journal's copy is used instead of the file; empty if it is not.
    """

    raw: dict[str, Any]
    problem: str = ""

    @property
    def video_keys(self) -> list[str]:
        """Cameras that are kept as videos."""
        return [key for key, feature in self.raw["features"].items() if feature["dtype"] == "video"]

    def data_path(self, chunk: int, file: int) -> str:
        """Data file of that number, relative to the dataset's folder."""
        return str(self.raw["data_path"].format(chunk_index=chunk, file_index=file))

    def video_path(self, key: str, chunk: int, file: int) -> str:
        """Video file of that number, relative to the dataset's folder."""
        return str(self.raw["video_path"].format(video_key=key, chunk_index=chunk, file_index=file))


def read_info(root: Path) -> Info:
    """`info.json`, or the journal's copy when a kill left half a file.

    Raises:
        CommandError: Neither can be read, or it is no v3 dataset: without the features nothing can be said
            about the rest.
    """
    problem = ""
    for path in (root / INFO_PATH, root / journal_files.FOLDER / "info.json"):
        try:
            raw = json.loads(path.read_text())
            _ = raw["features"], raw["data_path"], raw["fps"], raw["total_episodes"], raw["total_frames"]
        except FileNotFoundError:
            problem = problem or "is missing"
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = problem or f"cannot be read ({type(error).__name__})"
        else:
            _check_version(path, raw)
            return Info(raw, problem if path.parent.name == "journal" else "")
    raise CommandError(
        f"{root / INFO_PATH} {problem}, and no journal holds a copy: nothing else says what the files mean",
        "copy the info.json of a dataset recorded with the same robot and cameras there and run repair again",
    )


def _check_version(path: Path, raw: dict[str, Any]) -> None:
    version = str(raw.get("codebase_version", "unknown"))
    if not version.lstrip("v").startswith("3."):
        raise CommandError(
            f"{path}: codebase_version is {version!r}, repair knows v3.x",
            "convert the dataset with `python -m lerobot.scripts.convert_dataset_v21_to_v30` first",
        )


def meta_files(root: Path) -> list[Path]:
    """Files of `meta/episodes`, in order."""
    return sorted((root / EPISODES_DIR).glob("*/*.parquet"))


def read_episodes(root: Path, info: Info) -> tuple[dict[int, Episode], dict[str, str]]:
    """All rows of `meta/episodes` that can be read, completed from the journal.

    Returns:
        `tuple`: The rows by episode index, and the files that cannot be read with the reason.
    """
    found: dict[int, Episode] = {}
    unreadable: dict[str, str] = {}
    for path in meta_files(root):
        relative = path.relative_to(root).as_posix()
        try:
            table = pq.read_table(path)
            rows = [_episode(table.slice(i, 1), info, relative) for i in range(table.num_rows)]
        except UNREADABLE as error:
            unreadable[relative] = _reason(error)
            continue
        for row in rows:
            found.setdefault(row.index, row)
    for index in journal_files.journaled_episodes(root):
        try:
            row = _episode(pq.read_table(journal_files.meta_part(root, index)), info, None)
        except UNREADABLE:
            continue
        found.setdefault(row.index, row)
    return found, unreadable


def _episode(row: pa.Table, info: Info, meta_path: str | None) -> Episode:
    """One row; `meta_path` is the file it is from, `None` for the journal."""
    values = {name: row.column(name)[0].as_py() for name in row.column_names if not name.startswith("stats/")}
    videos = {}
    for key in info.video_keys:
        names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        place: list[Any] = [values.get(f"videos/{key}/{name}") for name in names]
        if None not in place:
            videos[key] = VideoSpan(info.video_path(key, *place[:2]), *place[2:])
    planned = DEFAULT_EPISODES_PATH.format(
        chunk_index=values.get("meta/episodes/chunk_index") or 0,
        file_index=values.get("meta/episodes/file_index") or 0,
    )
    return Episode(
        index=values["episode_index"],
        length=values["length"],
        start=values["dataset_from_index"],
        data_path=info.data_path(values["data/chunk_index"], values["data/file_index"]),
        meta_path=meta_path or planned,
        videos=videos,
        row=row,
        from_journal=meta_path is None,
    )


@dataclass(frozen=True)
class DataFile:
    """The columns of a data file that say which frame a row is.

    Args:
        columns (`dict[str, numpy.ndarray]`): (rows,) `index`, `episode_index`, `frame_index`, `task_index`.
        problem (`str`): Why it cannot be read; empty if it can.
    """

    columns: dict[str, Numbers]
    problem: str = ""

    @property
    def n_rows(self) -> int:
        """Rows of the file."""
        return len(self.columns.get("index", ()))

    def rows_of(self, episode: Episode) -> slice | None:
        """Where the frames of `episode` are; `None` if they are not all there, in order."""
        if self.problem:
            return None
        first = np.flatnonzero(
            (self.columns["index"] == episode.start) & (self.columns["episode_index"] == episode.index)
        )
        for start in first:
            place = slice(int(start), int(start) + episode.length)
            if _is_whole({name: column[place] for name, column in self.columns.items()}, episode):
                return place
        return None


_COLUMNS = ("index", "episode_index", "frame_index", "task_index")


def _is_whole(columns: dict[str, Numbers], episode: Episode) -> bool:
    """Whether these rows are exactly the frames of `episode`."""
    counted = np.arange(episode.length)
    return (
        np.array_equal(columns["index"], episode.start + counted)
        and np.array_equal(columns["frame_index"], counted)
        and bool((columns["episode_index"] == episode.index).all())
    )


class DataRows:
    """The data files and the journal's copies of their rows, each read once.

    Args:
        root (`Path`): The dataset's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, DataFile] = {}
        # The file read last: its episodes are asked for one after the other
        self._whole: tuple[Path, pa.Table] | None = None

    def file(self, path: str) -> DataFile:
        """What file `path` holds."""
        if path not in self._files:
            try:
                self._files[path] = DataFile(
                    _numbers(pq.read_table(self.root / path, columns=list(_COLUMNS)))
                )
            except UNREADABLE as error:
                self._files[path] = DataFile({}, _reason(error))
        return self._files[path]

    def tasks_of(self, episode: Episode) -> Numbers | None:
        """(frames,) Task index of each frame; `None` if the episode's rows are nowhere whole."""
        data = self.file(episode.data_path)
        place = data.rows_of(episode)
        if place is not None:
            return data.columns["task_index"][place]
        columns = self._journaled_columns(episode)
        return None if columns is None else columns["task_index"]

    def _journaled_columns(self, episode: Episode) -> dict[str, Numbers] | None:
        path = journal_files.data_part(self.root, episode.index)
        try:
            columns = _numbers(pq.read_table(path, columns=list(_COLUMNS)))
        except UNREADABLE:
            return None
        return columns if _is_whole(columns, episode) else None

    def table(self, episode: Episode) -> pa.Table:
        """All columns of an episode that `tasks_of` found.

        Raises:
            CommandError: The pages of its columns are damaged although the footer is there.
        """
        place = self.file(episode.data_path).rows_of(episode)
        path = journal_files.data_part(self.root, episode.index)
        try:
            if place is None:
                return pq.read_table(path)
            path = self.root / episode.data_path
            return self._whole_table(path).slice(place.start, episode.length)
        except UNREADABLE as error:
            raise CommandError(
                f"{path}: the rows of episode {episode.index} are damaged ({_reason(error)})",
                "restore this file from a copy of the dataset",
            ) from error

    def _whole_table(self, path: Path) -> pa.Table:
        if self._whole is None or self._whole[0] != path:
            self._whole = path, pq.read_table(path)
        return self._whole[1]


def _numbers(table: pa.Table) -> dict[str, Numbers]:
    return {name: table.column(name).to_numpy() for name in _COLUMNS}


def _reason(error: Exception) -> str:
    """Why a parquet file cannot be read, in few words."""
    text = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError):
        return "missing"
    if "footer" in text or "magic bytes" in text or "file size is 0" in text or "too small" in text.lower():
        return "no footer: it was never finished"
    return text[:120] or type(error).__name__


def data_files(root: Path) -> Iterator[str]:
    """Data files there are, relative to `root`, in order."""
    for path in sorted((root / "data").glob("*/*.parquet")):
        yield path.relative_to(root).as_posix()


def video_files(root: Path) -> Iterator[str]:
    """Video files there are, relative to `root`, in order."""
    for path in sorted((root / "videos").rglob("*.mp4")):
        yield path.relative_to(root).as_posix()
