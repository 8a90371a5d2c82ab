# SPDX-License-Identifier: Apache-2.0
"""A short recording as `lerobot-record` makes it, without a robot: dataset, writer, pacing, saving."""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import datasets
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.recording.candidates import Candidate
from lerobot_ext.recording.load import Load
from lerobot_ext.recording.scene import Picture
from lerobot_ext.recording.trial import TrialError, view

_JOINTS: Final = 6
_WRITER_THREADS_PER_CAMERA: Final = 4  # lerobot-record's default


@dataclass(frozen=True)
class Recorded:
    """What came of it.

    Args:
        hz (`float`): The rate that was reached.
        frames (`int`): Recorded, of each camera.
        late (`int`): Frames whose work took longer than their time: what `lerobot-record` warns of.
        dropped (`int`): Frames that the videos lack.
        save_s (`float`): How long saving the episode took.
        cpu_ms (`float`): A frame of all cameras, saving included, this process and its children.
    """

    hz: float
    frames: int
    late: int
    dropped: int
    save_s: float
    cpu_ms: float

    def keeps(self, fps: int) -> bool:
        """Whether it was in time: 29 of 30 frames a second, all there, one in a hundred late at most."""
        return self.hz >= fps * 29 / 30 and not self.dropped and self.late <= max(1, 0.01 * self.frames)


def record(
    candidate: Candidate | None, load: Load, pictures: Sequence[Picture], folder: Path, seconds: float
) -> Recorded:
    """Record one episode of `seconds`, paced like stock's `record_loop`.

    Args:
        candidate (`Candidate | None`): The streaming encoder's settings; `None` for stock's other way: a PNG
            a frame, encoded when the episode is saved.
        load (`Load`): The cameras.
        pictures (`Sequence`): What they see.
        folder (`Path`): For the dataset, which is removed in the end.
        seconds (`float`): Length of the episode.

    Raises:
        TrialError: The encoder fails.
    """
    home = Path(tempfile.mkdtemp(dir=folder))
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        dataset = _create(candidate, load, home / "dataset")
        return _one_episode(dataset, load, pictures, seconds)
    except (RuntimeError, ValueError) as error:
        raise TrialError(" ".join(str(error).split())[:200]) from error
    finally:
        if not bars:
            datasets.enable_progress_bars()
        shutil.rmtree(home, ignore_errors=True)


def _create(candidate: Candidate | None, load: Load, root: Path) -> LeRobotDataset:
    joints = {"dtype": "float32", "shape": (_JOINTS,), "names": None}
    size = (load.height, load.width, 3)
    video = {"dtype": "video", "shape": size, "names": ["height", "width", "channels"]}
    streaming: dict[str, Any] = {}
    if candidate is not None:
        streaming = {
            "streaming_encoding": True,
            "rgb_encoder": candidate.encoder(),
            "encoder_threads": candidate.threads,
            "encoder_queue_maxsize": candidate.queue,
        }
    return LeRobotDataset.create(
        "codec/trial",
        load.fps,
        {"observation.state": joints, "action": joints} | dict.fromkeys(_keys(load), video),
        root=root,
        video_backend="pyav",  # nothing is read
        image_writer_threads=_WRITER_THREADS_PER_CAMERA * load.cameras,
        **streaming,
    )


def _keys(load: Load) -> list[str]:
    return [f"observation.images.{camera}" for camera in range(load.cameras)]


def _one_episode(
    dataset: LeRobotDataset, load: Load, pictures: Sequence[Picture], seconds: float
) -> Recorded:
    views = {key: view(pictures, camera) for camera, key in enumerate(_keys(load))}
    interval, late = 1 / load.fps, 0
    begins: list[float] = []
    cpu = _cpu_s()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(begins) < 4:
        begins.append(time.perf_counter())
        frame: dict[str, Any] = {key: next(frames) for key, frames in views.items()}
        joints = np.zeros(_JOINTS, np.float32)
        dataset.add_frame({**frame, "observation.state": joints, "action": joints, "task": "trial"})
        spent = time.perf_counter() - begins[-1]
        late += spent > interval
        time.sleep(max(0.0, interval - spent))
    saving = time.perf_counter()
    dataset.save_episode()
    save_s = time.perf_counter() - saving
    dataset.finalize()
    n = len(begins)
    hz = (n - 1) / (begins[-1] - begins[0])
    missing = n * load.cameras - sum(_frames_in(path) for path in dataset.root.rglob("*.mp4"))
    return Recorded(hz, n, late, missing, save_s, (_cpu_s() - cpu) / n * 1e3)


def _cpu_s() -> float:
    """Seconds of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))
