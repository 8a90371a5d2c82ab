# SPDX-License-Identifier: Apache-2.0
"""Tries one candidate with LeRobot's own streaming encoder: as fast as it goes, and fed at a steady rate."""

import itertools
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import torch
from lerobot.datasets import video_utils
from lerobot.datasets.video_utils import StreamingVideoEncoder

from lerobot_ext.recording import hook
from lerobot_ext.recording.candidates import Candidate
from lerobot_ext.recording.load import Load
from lerobot_ext.recording.scene import Picture

_FRAME_BYTES: Final = 256 * 2**20
_TOLERANCE_S: Final = 1e-4  # LeRobot's own
_COMPARED: Final = 4
_MAX_PSNR: Final = 99.0
_REFUSALS = (video_utils.FrameTimestampError, RuntimeError, IndexError, av.FFmpegError)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep encoders and LeRobot from filling the terminal while dozens of encoders come and go.

    LeRobot asks FFmpeg for warnings only, then gives it its own log back, of which x264 is fond; SVT-AV1
    writes to the file descriptor. What is written to `sys.stderr` meanwhile, such as progress, is seen.
    """
    os.environ.setdefault("SVT_LOG", "1")
    before = logging.root.manager.disable
    stderr, descriptor = sys.stderr, os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    sys.stderr.flush()
    try:
        logging.disable(logging.CRITICAL)
        os.dup2(nowhere, 2)
        with os.fdopen(os.dup(descriptor), "w", encoding="utf-8", errors="replace") as seen:
            # A test or an IDE that replaced `sys.stderr` keeps its own.
            sys.stderr = seen if stderr is sys.__stderr__ else stderr
            yield
    finally:
        sys.stderr = stderr
        os.dup2(descriptor, 2)
        os.close(descriptor)
        os.close(nowhere)
        logging.disable(before)


class TrialError(Exception):
    """A candidate that does not work here at all; the text says why."""


@dataclass(frozen=True)
class Effort:
    """What encoding as fast as possible came to, all cameras at once.

    Args:
        frames_per_s (`float`): Of all cameras together.
        cpu_ms (`float`): A frame, all threads of the process: copy, encoding, statistics.
        kb (`float`): Kilobytes a frame.
        psnr (`float`): Of the decoded frames against those that went in, noise and all, in dB.
        decode_cpu_ms (`float | None`): Of a random frame by LeRobot's PyAV reader; `None` where that does not
            find its frames.
    """

    frames_per_s: float
    cpu_ms: float
    kb: float
    psnr: float
    decode_cpu_ms: float | None


@dataclass(frozen=True)
class Pace:
    """What came of feeding all cameras at a steady rate.

    Args:
        fps (`float`): The rate that was asked for.
        ticks (`int`): How often all cameras were fed.
        late (`int`): Ticks that ended more than one interval behind.
        dropped (`int`): Frames that LeRobot threw away because a queue was full.
        kept_up (`float`): Share of the second half's frames that the encoders took in that time.
        fullest (`float`): Of all queues, at any time: the share that was filled.
        cpu_ms (`float`): A tick, that is of one frame from each camera.
    """

    fps: float
    ticks: int
    late: int
    dropped: int
    kept_up: float
    fullest: float
    cpu_ms: float


def frames_within_memory(load: Load, most: int) -> int:
    """How many frames a camera may be queued at once."""
    return max(12, min(most, _FRAME_BYTES // (load.cameras * load.frame_bytes)))


def encode(candidate: Candidate, load: Load, pictures: Sequence[Picture], folder: Path, n: int) -> Effort:
    """Encode `n` frames a camera as fast as it goes, and look at what came out.

    Args:
        candidate (`Candidate`): The settings.
        load (`Load`): How many cameras; its rate does not matter here.
        pictures (`Sequence`): What they see, again and again, to and fro.
        folder (`Path`): For the files.
        n (`int`): Frames a camera.

    Raises:
        TrialError: The encoder does not open, or fails.
    """
    encoder = _encoder(candidate, load, queue=n + 1)
    views = [list(itertools.islice(view(pictures, camera), n)) for camera in range(load.cameras)]
    with _episode(encoder, load, folder) as keys:
        begun, begun_cpu = time.perf_counter(), time.process_time()
        for frames in zip(*views, strict=True):
            _feed(encoder, keys, frames)
        files = _finish(encoder)
        wall, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
        n_all = n * load.cameras
        bytes_a_frame = sum(file.stat().st_size for file in files) / n_all
        psnr = _psnr(files[0], views[0])
        decode = _decode_cpu_ms(files[0], views[0], load.fps)
    return Effort(n_all / wall, cpu / n_all * 1e3, bytes_a_frame / 1e3, psnr, decode)


def pace(
    candidate: Candidate, load: Load, pictures: Sequence[Picture], folder: Path, fps: float, seconds: float
) -> Pace:
    """Feed all cameras at `fps` for `seconds`.

    Raises:
        TrialError: The encoder does not open, or fails.
    """
    encoder = _encoder(candidate, load, candidate.queue)
    views = [view(pictures, camera) for camera in range(load.cameras)]
    ticks = max(4, round(seconds * fps))
    late, fullest, halfway = 0, 0, 0
    with _episode(encoder, load, folder) as keys:
        begun, begun_cpu = time.perf_counter(), time.process_time()
        for tick in range(ticks):
            _feed(encoder, keys, [next(frames) for frames in views])
            behind = time.perf_counter() - begun - tick / fps
            late += behind > 1 / fps
            waiting = [queue.qsize() for queue in encoder._frame_queues.values()]
            fullest = max(fullest, *waiting)
            if tick == ticks // 2:
                halfway = sum(waiting)
            time.sleep(max(0.0, 1 / fps - behind))
        waited = sum(queue.qsize() for queue in encoder._frame_queues.values()) - halfway
        fed = (ticks - ticks // 2 - 1) * load.cameras
        dropped = sum(encoder._dropped_frames.values())
        _finish(encoder)
        cpu = time.process_time() - begun_cpu
    # One frame a camera may wait at the moment of either count.
    grown = max(0, waited - load.cameras)
    return Pace(fps, ticks, late, dropped, 1 - grown / fed, fullest / candidate.queue, cpu / ticks * 1e3)


def view(pictures: Sequence[Picture], camera: int) -> Iterator[Picture]:
    """What one camera sees, without an end: the pictures to and fro, each camera from another place."""
    there_and_back = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    start = camera * len(there_and_back) // 5
    order = there_and_back[start:] + there_and_back[:start]
    return (pictures[index] for index in itertools.cycle(order))


def opens(vcodec: str) -> str:
    """Why a hardware encoder does not work here, in a few words; empty when it does.

    To be compiled in is not enough, and neither is to open: some fail at the first frame.
    """
    try:
        options = Candidate(vcodec, None, 24).encoder().get_codec_options(as_strings=True)
        with av.open("/dev/null", "w", format="null") as container:
            stream: Any = container.add_stream(vcodec, rate=30, options=options)
            stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
            for level in (0, 128, 255):
                picture = np.full((480, 640, 3), level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError, OSError) as error:
        return " ".join(str(error).split())[:120]
    return ""


def _encoder(candidate: Candidate, load: Load, queue: int) -> StreamingVideoEncoder:
    hook.encode_at_ordinary_priority()  # as a recording does
    try:
        return StreamingVideoEncoder(
            load.fps, candidate.encoder(), queue_maxsize=queue, encoder_threads=candidate.threads
        )
    except ValueError as error:
        raise TrialError(" ".join(str(error).split())[:200]) from error


@contextmanager
def _episode(encoder: StreamingVideoEncoder, load: Load, folder: Path) -> Iterator[list[str]]:
    """An episode under way, its files in a folder that is removed in the end; the cameras' keys."""
    keys = [f"observation.images.{camera}" for camera in range(load.cameras)]
    home = Path(tempfile.mkdtemp(dir=folder))
    try:
        encoder.start_episode(keys, home)
        yield keys
    finally:
        encoder.close()
        shutil.rmtree(home, ignore_errors=True)


def _feed(encoder: StreamingVideoEncoder, keys: list[str], frames: Sequence[Picture]) -> None:
    try:
        for key, frame in zip(keys, frames, strict=True):
            encoder.feed_frame(key, frame)
    except RuntimeError as error:
        raise TrialError(" ".join(str(error).split())[:200]) from error


def _finish(encoder: StreamingVideoEncoder) -> list[Path]:
    try:
        return [path for path, _ in encoder.finish_episode().values()]
    except RuntimeError as error:
        raise TrialError(" ".join(str(error).split())[:200]) from error


def _psnr(path: Path, frames: Sequence[Picture], most: int = 16) -> float:
    """Of the first frames of a file against what they were encoded from."""
    errors = []
    with av.open(str(path)) as container:
        for decoded, frame in zip(itertools.islice(container.decode(video=0), most), frames, strict=False):
            difference = decoded.to_ndarray(format="rgb24").astype(np.float32) - frame
            errors.append(float(np.square(difference).mean()))
    if not errors:
        raise TrialError("its file holds no frame")
    mean = statistics.fmean(errors)
    return _MAX_PSNR if mean == 0 else min(_MAX_PSNR, 10 * float(np.log10(255**2 / mean)))


def _decode_cpu_ms(path: Path, frames: Sequence[Picture], fps: int, reads: int = 12) -> float | None:
    """CPU milliseconds of a random frame, as a training's worker reads it through LeRobot with PyAV.

    Returns:
        `None` when a frame is not found, or another one than the one that was asked for.
    """
    spent = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as DataLoader's workers do
    try:
        for index in np.random.default_rng(0).integers(0, len(frames), reads).tolist():
            begun = time.process_time()
            found = video_utils.decode_video_frames(
                path, [index / fps], _TOLERANCE_S, "pyav", return_uint8=True
            )
            spent.append((time.process_time() - begun) * 1e3)
            if len(spent) <= _COMPARED and not _is_nearest(found[0].permute(1, 2, 0).numpy(), frames, index):
                return None
    except _REFUSALS:
        return None
    finally:
        torch.set_num_threads(threads)
    return statistics.median(spent)


def _is_nearest(found: Picture, frames: Sequence[Picture], index: int) -> bool:
    """Whether a decoded frame is no more like one of its neighbours than like itself."""
    near = {n: frames[n] for n in (index - 1, index, index + 1) if 0 <= n < len(frames)}
    errors = {n: float(np.square(found.astype(np.float32) - frame).mean()) for n, frame in near.items()}
    return errors[index] <= min(errors.values())
