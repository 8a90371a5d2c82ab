# SPDX-License-Identifier: Apache-2.0
"""Which frames a video file holds, and cutting it after one of them without encoding anything again."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from lerobot_ext.repair.contents import Numbers, VideoSpan


@dataclass(frozen=True)
class VideoFrames:
    """The frames of one file that are wholly there.

    Args:
        times_s (`numpy.ndarray`): (frames,) Their times, sorted, in seconds.
        problem (`str`): What is wrong with the file; empty if nothing is.
    """

    times_s: Numbers
    problem: str = ""

    def has(self, span: VideoSpan, length: int, fps: float) -> bool:
        """Whether the file has a frame for each of `length` frames from `span.from_s` on."""
        wanted = span.from_s + np.arange(length) / fps
        if len(self.times_s) == 0:
            return False
        behind = np.clip(np.searchsorted(self.times_s, wanted), 1, len(self.times_s)) - 1
        after = np.clip(behind + 1, 0, len(self.times_s) - 1)
        nearest = np.minimum(np.abs(self.times_s[behind] - wanted), np.abs(self.times_s[after] - wanted))
        return bool((nearest < 0.25 / fps).all())

    def after(self, end_s: float, fps: float) -> int:
        """Frames at `end_s` and later."""
        return int((self.times_s > end_s - 0.5 / fps).sum())


def read_frames(path: Path) -> VideoFrames:
    """Look through a file packet by packet; nothing is decoded.

    A file that was cut short still has the table of all its frames at the beginning: those whose bytes are
    beyond its end are left out.
    """
    times: list[float] = []
    problem = ""
    try:
        size = path.stat().st_size
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.pts is None or packet.size == 0:
                    continue
                if packet.is_corrupt or (packet.pos is not None and packet.pos + packet.size > size):
                    problem = "cut short"
                    continue
                times.append(float(packet.pts * stream.time_base))
            expected = stream.frames
        if expected and len(times) < expected:
            problem = "cut short"
    except FileNotFoundError:
        problem = "missing"
    except (OSError, av.FFmpegError, IndexError) as error:
        problem = f"cannot be read: {' '.join(str(error).split())[:100]}"
    return VideoFrames(np.sort(np.asarray(times, dtype=float)), problem)


def cut_after(source: Path, target: Path, end_s: float, fps: float) -> None:
    """Copy the frames of `source` before `end_s` to `target`, as they are.

    LeRobot encodes each episode by itself, so that the end of an episode never needs a later frame.
    """
    size = source.stat().st_size
    with (
        av.open(str(source)) as old,
        av.open(str(target), mode="w", options={"movflags": "faststart"}) as new,
    ):
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(template=stream, opaque=True)
        copy.time_base = stream.time_base
        last = end_s - 0.5 / fps
        try:
            for packet in old.demux(stream):
                if packet.pts is None or packet.size == 0 or packet.pos + packet.size > size:
                    continue
                if float(packet.pts * stream.time_base) > last:
                    continue
                packet.stream = copy
                new.mux(packet)
        except av.FFmpegError:
            # The end of a file that was cut short; what `read_frames` found came before it.
            pass
