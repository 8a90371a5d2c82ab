# SPDX-License-Identifier: Apache-2.0
"""Makes a LeRobotDataset of finished segments: joins videos, writes rows, statistics and metadata.

Everything LeRobot has a function for is LeRobot's: schema, statistics of numbers, `meta/`. It is repeated
from the start when it was cut off: the segments keep what is expensive.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from lerobot.datasets.compute_stats import compute_episode_stats
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.feature_utils import get_hf_features_from_features
from lerobot.datasets.io_utils import get_file_size_in_mb, write_info
from lerobot.datasets.utils import update_chunk_file_indices

from lerobot_ext.importing.encoding import Work
from lerobot_ext.importing.episodes import Segment
from lerobot_ext.importing.features import features_of, read_columns
from lerobot_ext.importing.image_stats import SampledFrames, Stats, stats_of
from lerobot_ext.importing.joining import join_videos
from lerobot_ext.importing.survey import Survey
from lerobot_ext.importing.tables import PictureRows, numbers_table

PartPath = Callable[[Segment, str], Path]


@dataclass(frozen=True)
class Target:
    """The dataset to make.

    Args:
        repo_id (`str`): Its name.
        root (`Path`): A folder that is not there.
        task (`str`): For episodes whose file names none.
        robot_type (`str`, *optional*): For `info.json`.
    """

    repo_id: str
    root: Path
    task: str
    robot_type: str | None = None


class Assembly:
    """Puts a dataset together.

    Args:
        found (`Survey`): The sources.
        work (`Work`): How pictures were encoded.
        segments (`Sequence[Segment]`): All, finished.
        part (`Callable`): File of a segment by its name, `observation.images.left.mp4` say.
    """

    def __init__(self, found: Survey, work: Work, segments: Sequence[Segment], part: PartPath) -> None:
        self.found, self.work, self.segments, self.part = found, work, segments, part

    def write(self, target: Target, tell: Callable[[int], None] = lambda episodes: None) -> None:
        """Write the dataset.

        Args:
            target (`Target`): Where to, under which name.
            tell (`Callable`, *optional*): Called after each episode with how many are written.
        """
        meta = LeRobotDatasetMetadata.create(
            target.repo_id,
            self.work.fps,
            features_of(self.found, video=self.work.encoder is not None),
            robot_type=target.robot_type,
            root=target.root,
            use_videos=self.work.encoder is not None and bool(self.found.cameras),
        )
        places = {key: self._videos(meta, key) for key in meta.video_keys}
        for key in meta.video_keys:
            meta.update_video_info(key, video_encoder=self.work.encoder)
        write_info(meta.info, meta.root)
        with ExitStack() as open_files:
            rows = _DataFiles(meta, open_files)
            images = {
                key: PictureRows(iter([self.part(segment, f"{key}.parquet") for segment in self.segments]))
                for key in meta.image_keys
            }
            stats = {key: self._image_stats(key) for key in meta.camera_keys}
            first = 0
            for index, episode in enumerate(self.found.episodes):
                columns = self._columns(meta, index, first, episode.task or target.task)
                place = rows.write(columns, images, episode.length)
                numeric = {key: column for key, column in columns.items() if key in meta.features}
                said = compute_episode_stats(numeric, meta.features)
                said |= {key: next(each) for key, each in stats.items()}
                for place_of in places.values():
                    place |= place_of[index]
                place |= {"dataset_from_index": first, "dataset_to_index": first + episode.length}
                meta.save_episode(index, episode.length, [episode.task or target.task], said, place)
                first += episode.length
                tell(index + 1)
        meta.finalize()

    def _columns(self, meta: LeRobotDatasetMetadata, index: int, first: int, task: str) -> dict[str, Any]:
        """All numbers of an episode, LeRobot's own columns too."""
        mapping, episode = self.found.mapping, self.found.episodes[index]
        assert mapping is not None
        meta.save_episode_tasks([task])
        counted = np.arange(episode.length)
        return read_columns(self.found.files, mapping, episode) | {
            "timestamp": (counted / self.work.fps).astype(np.float32),
            "frame_index": counted,
            "episode_index": np.full(episode.length, index),
            "index": first + counted,
            "task_index": np.full(episode.length, meta.get_task_index(task)),
        }

    def _videos(self, meta: LeRobotDatasetMetadata, key: str) -> list[dict[str, Any]]:
        """Join a camera's videos into files of LeRobot's size; where each episode is."""
        places: list[dict[str, Any]] = []
        chunk = file = 0
        for parts in self._by_size(key, meta.video_files_size_in_mb):
            path = meta.root / meta.video_path.format(video_key=key, chunk_index=chunk, file_index=file)
            sizes = [(self.part(segment, f"{key}.mp4"), segment.n_frames) for segment in parts]
            join_videos(sizes, path, self.work.fps)
            at = 0
            for episode in sorted({piece.episode for segment in parts for piece in segment.pieces}):
                length = self.found.episodes[episode].length
                places.append(
                    {
                        f"videos/{key}/chunk_index": chunk,
                        f"videos/{key}/file_index": file,
                        f"videos/{key}/from_timestamp": at / self.work.fps,
                        f"videos/{key}/to_timestamp": (at + length) / self.work.fps,
                    }
                )
                at += length
            chunk, file = update_chunk_file_indices(chunk, file, meta.chunks_size)
        return places

    def _by_size(self, key: str, limit_mb: float) -> Iterator[list[Segment]]:
        """Segments that share a file: whole episodes, below the limit if an episode is."""
        sharing: list[Segment] = []
        size = 0.0
        for run in self._whole_runs():
            run_mb = sum(get_file_size_in_mb(self.part(segment, f"{key}.mp4")) for segment in run)
            if sharing and size + run_mb >= limit_mb:
                yield sharing
                sharing, size = [], 0.0
            sharing, size = sharing + run, size + run_mb
        yield sharing

    def _whole_runs(self) -> Iterator[list[Segment]]:
        run: list[Segment] = []
        for segment in self.segments:
            run.append(segment)
            if segment.whole:
                yield run
                run = []

    def _image_stats(self, key: str) -> Iterator[Stats]:
        """Statistics of a camera's pictures, episode by episode."""
        counts, current = np.zeros((3, 256), np.int64), 0
        for segment in self.segments:
            with np.load(self.part(segment, f"{key}.npz")) as kept:
                for episode, of_piece in zip(kept["episodes"].tolist(), kept["counts"], strict=True):
                    if episode != current:
                        yield stats_of(counts, len(SampledFrames(self.found.episodes[current].length)))
                        counts, current = np.zeros((3, 256), np.int64), episode
                    counts = counts + of_piece
        yield stats_of(counts, len(SampledFrames(self.found.episodes[current].length)))


class _DataFiles:
    """The data files of a dataset, one row group an episode (or fewer rows, with pictures)."""

    ROWS_WITH_PICTURES = 256

    def __init__(self, meta: LeRobotDatasetMetadata, open_files: ExitStack) -> None:
        self._meta, self._open_files = meta, open_files
        self._schema = get_hf_features_from_features(meta.features).arrow_schema
        self._writer: pq.ParquetWriter | None = None
        self._place = (0, 0)

    def write(self, columns: dict[str, Any], images: dict[str, PictureRows], length: int) -> dict[str, Any]:
        """Append an episode; which file it is in."""
        writer = self._next_writer()
        step = self.ROWS_WITH_PICTURES if images else length
        for low in range(0, length, step):
            high = min(length, low + step)
            table = numbers_table(self._schema, {key: column[low:high] for key, column in columns.items()})
            for key, rows in images.items():
                table = table.append_column(self._schema.field(key), rows.take(high - low))
            writer.write_table(
                table.select(self._schema.names).replace_schema_metadata(self._schema.metadata)
            )
        return {"data/chunk_index": self._place[0], "data/file_index": self._place[1]}

    def _next_writer(self) -> pq.ParquetWriter:
        path = self._path()
        if self._writer is not None and get_file_size_in_mb(path) >= self._meta.data_files_size_in_mb:
            self._writer.close()
            self._writer = None
            self._place = update_chunk_file_indices(*self._place, self._meta.chunks_size)
            path = self._path()
        if self._writer is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, self._schema, compression="snappy", use_dictionary=True)
            self._open_files.callback(self._writer.close)
        return self._writer

    def _path(self) -> Path:
        chunk, file = self._place
        path: str = self._meta.data_path.format(chunk_index=chunk, file_index=file)
        return Path(self._meta.root, path)
