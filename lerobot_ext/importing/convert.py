# SPDX-License-Identifier: Apache-2.0
"""Converts HDF5 recordings: encodes segments in parallel and keeps them, assembles, verifies, publishes."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Final

import av

from lerobot_ext.cli.command import CommandError
from lerobot_ext.data import fingerprint
from lerobot_ext.importing import episodes
from lerobot_ext.importing.assembly import Assembly, Target
from lerobot_ext.importing.encoding import StoppedError, Work, encode, probe
from lerobot_ext.importing.episodes import Segment
from lerobot_ext.importing.findings import Problem, SourceError
from lerobot_ext.importing.staging import Staging
from lerobot_ext.importing.survey import Survey
from lerobot_ext.importing.tree import reason
from lerobot_ext.importing.verify import Verified, verify

if TYPE_CHECKING:
    from lerobot.configs import RGBEncoderConfig

PNG: Final = "png"
_FORMAT: Final = 1  # of what segments hold; another number and old ones are not gone on with


@dataclass(frozen=True)
class Options:
    """How to convert.

    Args:
        repo_id (`str`): The dataset's name.
        root (`Path`): Its folder, not there yet.
        fps (`int`): Frames a second.
        task (`str`): For episodes whose file names none.
        vcodec (`str`): One of LeRobot's codecs, or `PNG`.
        robot_type (`str`, *optional*): For `info.json`.
        workers (`int`, *optional*): Cameras that are encoded at once; one a core by default.
        restart (`bool`): Throw away what a cut-off conversion finished.
        segment_frames (`int`): Frames that a kill can cost.
    """

    repo_id: str
    root: Path
    fps: int
    task: str
    vcodec: str = "libsvtav1"
    robot_type: str | None = None
    workers: int | None = None
    restart: bool = False
    segment_frames: int = episodes.SEGMENT_FRAMES


@dataclass(frozen=True)
class Progress:
    """Called while it goes on: `stage` names a part and how many steps it has, `step` counts them."""

    stage: Callable[[str, int, int], None]
    step: Callable[[int], None]


@dataclass(frozen=True)
class Report:
    """What a conversion did.

    Args:
        root (`Path`): The dataset.
        n_episodes, n_frames (`int`): What it has.
        n_kept (`int`): Segments that an earlier, cut-off run had finished.
        verified (`Verified`): What was compared.
    """

    root: Path
    n_episodes: int
    n_frames: int
    n_kept: int
    verified: Verified


def convert(found: Survey, options: Options, progress: Progress) -> Report:
    """Write a LeRobotDataset.

    Args:
        found (`Survey`): The sources; nothing is written if it has problems.
        options (`Options`): How.
        progress (`Progress`): Told what is done.

    Raises:
        SourceError: A source has problems, or turns out to be damaged; nothing stays behind.
        CommandError: The codec or the folder do not serve.
    """
    if found.problems:
        raise SourceError(found.problems)
    if not found.episodes:
        raise SourceError([Problem("empty", str(found.files[0]), "holds no episodes")])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = options.workers or cores
    encoder = _encoder(options.vcodec)
    cut = list(episodes.segments([each.length for each in found.episodes], options.segment_frames))
    work = Work(found.files, found.episodes, options.fps, encoder, max(1, cores // workers))
    if encoder is not None:
        _probe(found, work)
    staging = Staging(options.root)
    with staging.opened(_plan(found, options, encoder), restart=options.restart) as n_kept:
        try:
            _encode_all(found, work, cut, staging, progress, workers)
            made = _assemble(found, work, cut, staging, options, progress)
        except SourceError:
            staging.discard()
            raise
        except (OSError, av.FFmpegError) as error:
            raise _not_written(error) from error
    return Report(options.root, len(found.episodes), found.n_frames, n_kept, made)


def _encoder(vcodec: str) -> "RGBEncoderConfig | None":
    from lerobot.configs import RGBEncoderConfig

    if vcodec == PNG:
        return None
    try:
        return RGBEncoderConfig(vcodec=vcodec)
    except ValueError as error:
        raise CommandError(f"--vcodec {vcodec}: {error}", f"leave it out, or `--vcodec {PNG}`") from error


def _probe(found: Survey, work: Work) -> None:
    """Refuse sizes that the codec does not take before anything is written."""
    with TemporaryDirectory() as folder:
        problems = [
            Problem(
                "image-size",
                size.camera.path,
                f"the codec does not take {size.height}x{size.width}: {why}",
                f"another --vcodec, h264 takes small pictures; odd sides need `--vcodec {PNG}`",
            )
            for size in found.cameras
            if (why := probe(work, size, Path(folder)))
        ]
    if problems:
        raise SourceError(problems)


def _plan(found: Survey, options: Options, encoder: Any) -> dict[str, Any]:
    """What finished segments depend on."""
    assert found.mapping is not None
    about = {
        "format": _FORMAT,
        "mapping": found.mapping.as_plain(),
        "fps": options.fps,
        "encoder": asdict(encoder) if encoder is not None else PNG,
        "segment_frames": options.segment_frames,
    }
    files = [path.resolve() for path in found.files]
    return {"files": [str(path) for path in files], "of": fingerprint.of_files(options.root, files, about)}


def _encode_all(
    found: Survey, work: Work, cut: Sequence[Segment], staging: Staging, progress: Progress, workers: int
) -> None:
    """Encode what is not finished: a task a segment and camera."""
    finished = staging.finished()
    n_cameras = max(1, len(found.cameras))
    done = sum(segment.n_frames for segment in cut if segment.index in finished)
    progress.stage("encoding", found.n_frames * n_cameras, done * n_cameras)
    stop, lock = Event(), Lock()
    left: dict[int, int] = {}

    def tell(count: int) -> None:
        with lock:
            progress.step(count)

    def task(segment: Segment, camera: Any) -> None:
        if stop.is_set():
            raise StoppedError
        encode(work, segment, camera, staging.unfinished_folder(segment.index), stop, tell)
        with lock:
            left[segment.index] -= 1
            if not left[segment.index]:
                staging.finish(segment.index)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")
    try:
        running: list[Future[None]] = []
        for segment in cut:
            if segment.index in finished:
                continue
            left[segment.index] = len(found.cameras)
            running += [pool.submit(task, segment, camera) for camera in found.cameras]
        wait(running, return_when=FIRST_EXCEPTION)
        _raise_first(running, stop)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _raise_first(running: Sequence[Future[None]], stop: Event) -> None:
    for future in running:
        error = future.exception() if future.done() else None
        if error is None or isinstance(error, StoppedError):
            continue
        stop.set()
        if isinstance(error, OSError | av.FFmpegError):
            raise _not_written(error) from error
        raise error


def _not_written(error: Exception) -> CommandError:
    """For a disk that is full or gone; what reads the sources raises `SourceError`."""
    return CommandError(
        f"the dataset cannot be written: {reason(error)}",
        "make room, then run the same command again: what is finished is kept",
    )


def _assemble(
    found: Survey,
    work: Work,
    cut: Sequence[Segment],
    staging: Staging,
    options: Options,
    progress: Progress,
) -> Verified:
    progress.stage("writing", len(found.episodes), 0)
    assembly = Assembly(found, work, cut, lambda segment, name: staging.part(segment.index, name))
    target = Target(options.repo_id, staging.dataset, options.task, options.robot_type)
    assembly.write(target, lambda count: progress.step(1))
    progress.stage("verifying", 1, 0)
    verified = verify(found, options.repo_id, staging.dataset)
    progress.step(1)
    staging.publish()
    return verified
