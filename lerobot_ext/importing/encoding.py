# SPDX-License-Identifier: Apache-2.0
"""One camera of one segment: pictures straight from the HDF5 file into a video, or into PNG rows.

LeRobot's own loop writes each picture as PNG, reads it again for the statistics and once more for the video,
and starts an encoder an episode; here every picture is touched once and an encoder runs for a segment.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lerobot_ext.importing import pictures
from lerobot_ext.importing.episodes import Episode, Segment
from lerobot_ext.importing.findings import Problem, SourceError
from lerobot_ext.importing.image_stats import SampledFrames, histogram
from lerobot_ext.importing.survey import CameraSize
from lerobot_ext.importing.tree import H5_ERRORS, opened, reason
from lerobot_ext.recording.priority import ordinary_priority

if TYPE_CHECKING:
    from lerobot.configs import RGBEncoderConfig

# As LeRobot's data files have a picture: `datasets.Image()`.
IMAGE_TYPE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_PNG_ROWS: Final = 64  # pictures in memory before they are written
_TELL_EVERY: Final = 32


class StoppedError(Exception):
    """Another camera failed, or the user asked to stop."""


@dataclass(frozen=True)
class Work:
    """What the encoding of every segment needs to know.

    Args:
        files (`Sequence[Path]`): The sources.
        episodes (`Sequence[Episode]`): All episodes.
        fps (`int`): Frames a second.
        encoder (`RGBEncoderConfig`, *optional*): LeRobot's settings; `None` keeps PNG pictures.
        threads (`int`, *optional*): Of one encoder; the codec chooses by default.
    """

    files: Sequence[Path]
    episodes: Sequence[Episode]
    fps: int
    encoder: "RGBEncoderConfig | None"
    threads: int | None = None


def encode(
    work: Work,
    segment: Segment,
    camera: CameraSize,
    folder: Path,
    stop: Event,
    tell: Callable[[int], None] = lambda count: None,
) -> None:
    """Write the pictures of a camera in a segment, and their histograms, to a folder.

    Args:
        work (`Work`): What to encode how.
        segment (`Segment`): Which frames.
        camera (`CameraSize`): Which pictures.
        folder (`Path`): Gets `NAME.mp4` or `NAME.parquet`, and `NAME.npz`.
        stop (`Event`): Set to break off.
        tell (`Callable`, *optional*): Called with how many pictures more are encoded.

    Raises:
        SourceError: A picture, or the file, is damaged.
        OSError: There is no room.
        StoppedError: `stop` was set.
    """
    name = camera.camera.name
    counts = np.zeros((len(segment.pieces), 3, 256), np.int64)
    untold = 0
    with _sink(work, camera, folder) as put:
        for index, piece in enumerate(segment.pieces):
            sampled = SampledFrames(work.episodes[piece.episode].length)
            frame = piece.start
            for picture in _pictures_of(work, piece.episode, piece.start, piece.length, camera):
                if stop.is_set():
                    raise StoppedError
                put(picture)
                if frame in sampled:
                    counts[index] += histogram(picture)
                frame += 1
                untold += 1
                if untold == _TELL_EVERY:
                    tell(untold)
                    untold = 0
    episodes = np.array([piece.episode for piece in segment.pieces])
    np.savez(folder / f"{name}.npz", episodes=episodes, counts=counts)
    tell(untold)


def _pictures_of(work: Work, episode: int, start: int, length: int, camera: CameraSize) -> Iterator[Any]:
    """The pictures of a piece, one by one."""
    source = work.episodes[episode]
    low = source.start + start
    expected = (camera.height, camera.width, 3)
    place = f"{work.files[source.file]}:{source.group}/{camera.camera.path}"
    try:
        with opened(work.files[source.file]) as file:
            group = file[source.group] if source.group else file
            dataset = group[camera.camera.path]
            for block in pictures.blocks(dataset, camera.camera, low, low + length):
                if block.shape[1:] != expected:
                    raise pictures.PictureError(f"a picture of {block.shape[1:]} among those of {expected}")
                yield from block
    except (*H5_ERRORS, pictures.PictureError) as error:
        text = f"cannot be read in rows {low} to {low + length - 1}: {reason(error)}"
        raise SourceError(
            [Problem("damaged", place, text, "copy the file again, or leave it out")]
        ) from error


@contextmanager
def _sink(work: Work, camera: CameraSize, folder: Path) -> Iterator[Any]:
    """A function that takes one picture after the other."""
    name = camera.camera.name
    if work.encoder is None:
        with _png_rows(folder / f"{name}.parquet") as put:
            yield put
        return
    with ordinary_priority(), av.open(str(folder / f"{name}.mp4"), "w") as container:
        stream = container.add_stream(
            work.encoder.vcodec,
            work.fps,
            options=work.encoder.get_codec_options(work.threads, as_strings=True),
        )
        stream.pix_fmt = work.encoder.pix_fmt
        stream.width, stream.height = camera.width, camera.height
        stream.time_base = Fraction(1, work.fps)
        count = 0

        def put(picture: Any) -> None:
            nonlocal count
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = count, Fraction(1, work.fps)
            container.mux(stream.encode(frame))
            count += 1

        yield put
        container.mux(stream.encode())


@contextmanager
def _png_rows(path: Path) -> Iterator[Any]:
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, pa.schema([("image", IMAGE_TYPE)]), compression="none") as writer:

        def flush() -> None:
            writer.write_table(pa.table({"image": pa.array(rows, IMAGE_TYPE)}))
            rows.clear()

        def put(picture: Any) -> None:
            coded = io.BytesIO()
            Image.fromarray(picture).save(coded, "PNG", compress_level=6)  # LeRobot's level for kept pictures
            rows.append({"bytes": coded.getvalue(), "path": None})
            if len(rows) == _PNG_ROWS:
                flush()

        yield put
        if rows:
            flush()


def probe(work: Work, camera: CameraSize, folder: Path) -> str:
    """Why the codec cannot take pictures of this size; empty if it can.

    Args:
        work (`Work`): What to encode how.
        camera (`CameraSize`): How large.
        folder (`Path`): For a file of four frames.
    """
    blank = np.zeros((camera.height, camera.width, 3), np.uint8)
    try:
        with _sink(work, camera, folder) as put:
            for _ in range(4):
                put(blank)
    except (av.FFmpegError, ValueError, OSError) as error:
        return " ".join(str(error).split())[:120] or type(error).__name__
    return ""
