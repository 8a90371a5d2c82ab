# SPDX-License-Identifier: Apache-2.0
"""Reads a converted dataset back as LeRobot will, and compares it with the files it was made of.

- every row of every column, exactly;
- every video frame by its time, without decoding;
- some pictures of every camera: PNG exactly; of a video each must be near its own picture, and nearer to it
  than to others of its episode, so that a shift by one frame is seen.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from lerobot.datasets import video_utils
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from PIL import Image

from lerobot_ext.cli.command import CommandError
from lerobot_ext.importing import pictures
from lerobot_ext.importing.features import open_group, read_columns
from lerobot_ext.importing.survey import CameraSize, Survey
from lerobot_ext.repair.videos import read_frames

if TYPE_CHECKING:
    from lerobot_ext.importing.episodes import Episode

_EPISODES: Final = 12  # of each camera, whose pictures are decoded
_CODEC_ERROR: Final = 48.0  # levels of 255 on average; LeRobot's default codec makes 2-6 of real scenes
_TIE: Final = 1.0  # levels by which another picture may be nearer: a scene at rest


@dataclass(frozen=True)
class Verified:
    """What was compared.

    Args:
        frames (`int`): Rows whose columns are equal.
        pictures (`int`): Pictures that were decoded.
        mean_error (`float`): Their mean difference, in levels of 255.
    """

    frames: int
    pictures: int
    mean_error: float


class NotAsWrittenError(CommandError):
    """The dataset is not what the files hold; it was not put in its place."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the converted dataset differs from its source: {what}",
            "run again with --restart; if it happens again, report it with this line",
        )


def verify(found: Survey, repo_id: str, root: Path) -> Verified:
    """Compare a dataset with its sources.

    Args:
        found (`Survey`): The sources.
        repo_id (`str`): The dataset's name.
        root (`Path`): Its folder.

    Raises:
        NotAsWrittenError: At the first difference.
    """
    meta = LeRobotDatasetMetadata(repo_id, root=root)
    counted = (meta.total_episodes, meta.total_frames)
    if counted != (len(found.episodes), found.n_frames):
        raise NotAsWrittenError(f"{counted} episodes and frames for {len(found.episodes)}, {found.n_frames}")
    _check_rows(found, meta)
    errors: list[float] = []
    for camera in found.cameras:
        if camera.camera.name in meta.video_keys:
            _check_times(meta, camera.camera.name)
        errors += _check_pictures(found, meta, camera)
    return Verified(found.n_frames, len(errors), float(np.mean(errors)) if errors else 0.0)


def _check_rows(found: Survey, meta: LeRobotDatasetMetadata) -> None:
    assert found.mapping is not None
    table: Any = None
    open_path = None
    for index, episode in enumerate(found.episodes):
        row = meta.episodes[index]
        path = meta.root / meta.get_data_file_path(index)
        if path != open_path:
            names = [key for key in meta.features if key not in meta.camera_keys]
            open_path, table = path, pq.read_table(path, columns=names)
            first = int(table.column("index")[0].as_py())
        start = int(row["dataset_from_index"]) - first
        mine = table.slice(start, episode.length)
        expected = read_columns(found.files, found.mapping, episode)
        expected |= {
            "episode_index": np.full(episode.length, index),
            "frame_index": np.arange(episode.length),
            "index": row["dataset_from_index"] + np.arange(episode.length),
        }
        for name, values in expected.items():
            if not np.array_equal(_numpy(mine.column(name), values.shape), values):
                raise NotAsWrittenError(f"column `{name}` of episode {index}")


def _numpy(column: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    joined = column.combine_chunks()
    if len(shape) == 2:
        return np.asarray(joined.flatten().to_numpy(zero_copy_only=False)).reshape(-1, shape[1])
    return np.asarray(joined.to_numpy(zero_copy_only=False))


def _check_times(meta: LeRobotDatasetMetadata, key: str) -> None:
    """Every frame of every episode is in its video, at its time."""
    frames: dict[Path, Any] = {}
    for index in range(meta.total_episodes):
        path = meta.root / meta.get_video_file_path(index, key)
        if path not in frames:
            frames.clear()
            frames[path] = read_frames(path)
        row = meta.episodes[index]
        wanted = row[f"videos/{key}/from_timestamp"] + np.arange(row["length"]) / meta.fps
        times = frames[path].times_s
        low = int(np.searchsorted(times, wanted[0] - 0.5 / meta.fps))
        got = times[low : low + len(wanted)]
        if frames[path].problem or len(got) != len(wanted) or np.abs(got - wanted).max() > 1e-3:
            raise NotAsWrittenError(f"frames of `{key}` in episode {index} {frames[path].problem}")


def _check_pictures(found: Survey, meta: LeRobotDatasetMetadata, camera: CameraSize) -> list[float]:
    """Mean difference of each picture that was decoded."""
    errors = []
    chosen = np.unique(np.linspace(0, len(found.episodes) - 1, _EPISODES).astype(int))
    for index in chosen.tolist():
        episode = found.episodes[index]
        frames = np.unique([0, episode.length // 2, episode.length - 1])
        source = np.stack(list(_source(found, episode, camera, frames.tolist()))).astype(np.float32)
        got = _decoded(meta, camera.camera.name, index, frames).astype(np.float32)
        # (decoded, source) mean difference of each to each
        apart = np.abs(got[:, None] - source[None]).mean((2, 3, 4))
        own = apart.diagonal()
        exact = camera.camera.name in meta.image_keys
        limit = 0.0 if exact else _CODEC_ERROR
        if own.max() > limit or (own[:, None] > apart + _TIE).any():
            worst = int(own.argmax())
            what = f"picture {frames[worst]} of `{camera.camera.name}` in episode {index}"
            raise NotAsWrittenError(f"{what}, by {own[worst]:.1f} of 255")
        errors += own.tolist()
    return errors


def _source(found: Survey, episode: "Episode", camera: CameraSize, frames: list[int]) -> Iterator[Any]:
    with open_group(found.files, episode) as group:
        dataset = group[camera.camera.path]
        for frame in frames:
            row = episode.start + frame
            yield next(pictures.blocks(dataset, camera.camera, row, row + 1))[0]


def _decoded(
    meta: LeRobotDatasetMetadata, key: str, index: int, frames: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """(n, H, W, 3) pictures as LeRobot reads them."""
    row = meta.episodes[index]
    if key in meta.image_keys:
        path = meta.root / meta.get_data_file_path(index)
        table = pq.read_table(path, columns=[key, "index"], filters=[("episode_index", "=", index)])
        cells = table.column(key)
        return np.stack(
            [np.asarray(Image.open(io.BytesIO(cells[int(at)].as_py()["bytes"]))) for at in frames]
        )
    path = meta.root / meta.get_video_file_path(index, key)
    times = (row[f"videos/{key}/from_timestamp"] + frames / meta.fps).tolist()
    got = video_utils.decode_video_frames(path, times, 1e-4, backend="pyav", return_uint8=True)
    return np.asarray(got.numpy().transpose(0, 2, 3, 1))
