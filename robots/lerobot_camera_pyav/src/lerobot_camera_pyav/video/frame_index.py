# SPDX-License-Identifier: Apache-2.0
"""Which frames a video file has, when each is shown, and where decoding has to start to get it."""

from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import IO

import av
import numpy as np
import numpy.typing as npt

from lerobot_camera_pyav.video.errors import NoFrameNearError, VideoReadError
from lerobot_camera_pyav.video.mp4_tables import read_video_table


@dataclass(frozen=True)
class FrameIndex:
    """The frames of one video stream, numbered in the order in which they are shown.

    `N` frames, `K` keyframes.

    Args:
        time_base (`Fraction`): Seconds a tick.
        pts (`np.ndarray`): (N,) int64, ascending: when each frame is shown, in ticks.
        key_pts (`np.ndarray`): (K,) int64, ascending: the `pts` of frames at which decoding can start.
        key_seek (`np.ndarray`): (K,) int64: what to seek to for each of them; see `_seek_times`.
        from_tables (`bool`): Read from the file's tables, not from its packets: to be doubted first when a
            frame is not where it should be.
    """

    time_base: Fraction
    pts: npt.NDArray[np.int64]
    key_pts: npt.NDArray[np.int64]
    key_seek: npt.NDArray[np.int64]
    from_tables: bool

    def __len__(self) -> int:
        return len(self.pts)

    @cached_property
    def seconds(self) -> npt.NDArray[np.float64]:
        """(N,) when each frame is shown, in seconds."""
        return self.pts.astype(np.float64) * float(self.time_base)

    def nearest(self, timestamps: npt.ArrayLike, tolerance_s: float) -> npt.NDArray[np.int64]:
        """The numbers of the frames nearest to some times; of two as near, the earlier one.

        Args:
            timestamps (`array_like`): (T,) seconds.
            tolerance_s (`float`): A frame must be nearer than this.

        Returns:
            (T,) frame numbers.

        Raises:
            NoFrameNearError: No frame is near enough to one of them.
        """
        wanted = np.asarray(timestamps, dtype=np.float64)
        shown = self.seconds
        after = np.clip(np.searchsorted(shown, wanted), 0, len(shown) - 1)
        before = np.maximum(after - 1, 0)
        found = np.where(wanted - shown[before] <= shown[after] - wanted, before, after)
        off = np.abs(shown[found] - wanted)
        # LeRobot compares in float32, in which times beyond an hour differ by more than its tolerance or not
        # at all: what is the same there must not be refused here.
        off32 = np.abs(shown[found].astype(np.float32) - wanted.astype(np.float32))
        far = ~(np.minimum(off, off32) < tolerance_s)
        if far.any():
            worst = int(np.flatnonzero(far)[0])
            raise NoFrameNearError(
                f"no frame within {tolerance_s:g} s of {wanted[worst]:.6f} s; the nearest is frame "
                f"{found[worst]} at {shown[found[worst]]:.6f} s, the last frame {len(self) - 1} at "
                f"{shown[-1]:.6f} s",
                float(wanted[worst]),
            )
        return found

    def key_before(self, number: int) -> int:
        """The number `k` of the keyframe from which frame `number` is decoded; -1 where there is none."""
        return int(np.searchsorted(self.key_pts, self.pts[number], side="right")) - 1


def build_index(
    container: av.container.InputContainer, stream: av.VideoStream, source: Path | str | IO[bytes]
) -> FrameIndex:
    """The index of a video stream: from the file's tables where it is a plain MP4, else from its packets.

    Args:
        container (`InputContainer`): Open.
        stream (`VideoStream`): The first video stream in it.
        source (`Path | str | IO[bytes]`): The same file, by its path or a file object of its own.

    Raises:
        VideoReadError: It has no frames.
    """
    table = None
    if "mp4" in container.format.name:
        with open(source, "rb") if isinstance(source, Path | str) else nullcontext(source) as file:
            table = read_video_table(file)
    agrees = (
        table is not None
        and stream.time_base == Fraction(1, table.timescale)
        and stream.start_time in (None, table.pts.min())
        and stream.frames in (0, len(table.pts))
    )
    if table is None or not agrees:
        return scan_packets(source)
    seek = _seek_times(table.pts, table.dts)
    return _sorted(stream.time_base, table.pts, seek, table.key, from_tables=True)


def scan_packets(source: Path | str | IO[bytes]) -> FrameIndex:
    """The index by reading all packets, without decoding; a damaged file's is what is left of it.

    Args:
        source (`Path | str | IO[bytes]`): The file, by its path or a file object of its own.

    Raises:
        VideoReadError: It has no frames.
    """
    rows: list[tuple[int, int, bool]] = []
    if not isinstance(source, Path | str):
        source.seek(0)
    with av.open(source, metadata_errors="replace") as container:
        stream = container.streams.video[0]
        try:
            for packet in container.demux(stream):
                if packet.pts is not None and not packet.is_discard:
                    dts = packet.pts if packet.dts is None else packet.dts
                    rows.append((packet.pts, dts, packet.is_keyframe))
        except av.FFmpegError:  # asking for a frame after this place will say what is wrong
            pass
        time_base, is_mov = stream.time_base, "mp4" in container.format.name
    pts, dts, key = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    seek = _seek_times(pts, dts) if is_mov else dts
    return _sorted(time_base, pts, seek, key.astype(bool), from_tables=False)


def _seek_times(pts: npt.NDArray[np.int64], dts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What to seek to in an MP4 so that FFmpeg stands before just this packet.

    FFmpeg looks for decoding times but takes what it is given for a showing time, and subtracts the shift
    between the two at the start of the file. Seeking to a frame's showing time therefore ends one keyframe
    too late where later frames are shown at a smaller delay, and too early for a decoding time as it is.
    """
    return dts + (pts.min() - dts.min()) if len(pts) else dts


def _sorted(
    time_base: Fraction | None,
    pts: npt.NDArray[np.int64],
    seek: npt.NDArray[np.int64],
    key: npt.NDArray[np.bool_],
    *,
    from_tables: bool,
) -> FrameIndex:
    """A `FrameIndex` from the packets' times in decoding order."""
    if not len(pts) or not time_base:
        raise VideoReadError("it has no video frames")
    order = np.argsort(pts[key], kind="stable")
    return FrameIndex(time_base, np.unique(pts), pts[key][order], seek[key][order], from_tables=from_tables)
