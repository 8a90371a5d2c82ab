# SPDX-License-Identifier: Apache-2.0
"""One open video file, from which frames are taken at any time, in any order."""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from lerobot_camera_pyav.video.convert import FrameWriter
from lerobot_camera_pyav.video.errors import NoFrameNearError, VideoReadError
from lerobot_camera_pyav.video.frame_index import FrameIndex, build_index, scan_packets

_EARLIER_KEYFRAMES = 2
"""How many keyframes before the right one are tried for a frame that does not come out."""
_LONG_BEFORE = 2**40
"""Ticks before the first frame: seeking there finds the start also in containers without an index."""


class VideoDecoder:
    """Decodes single frames of a video file exactly, decoding no frame that is not needed.

    The file stays open. Frames are found by an index of all frame times, so decoding starts at the right
    keyframe also with B-frames and with a varying rate; it goes on from where it stands where that is
    shorter. Only the frames asked for are converted. May be used by several threads, one at a time.

    Args:
        path (`Path | str`): A file, or anything with `://` that fsspec opens.
        depth (`bool`, *optional*, defaults to `False`): Give one channel of 12 bits instead of RGB.
        size (`tuple[int, int]`, *optional*): Height and width to give; the video's own by default.

    Raises:
        FileNotFoundError: There is no such file.
        VideoReadError: It is no video, or has no frames.
    """

    def __init__(self, path: Path | str, *, depth: bool = False, size: tuple[int, int] | None = None) -> None:
        self.path = str(path)
        self._lock = threading.Lock()
        try:
            self._container = av.open(_source(self.path), metadata_errors="replace")
            # Container and streams refer to each other: without this, a file would stay open until the next
            # garbage collection.
            weakref.finalize(self, self._container.close).atexit = False
            self._stream = self._container.streams.video[0]
            if self._stream.codec_context is None or not self._stream.codec_context.width:
                raise VideoReadError("it does not say how its pictures are coded")
            # Frames of several cameras are decoded side by side already: more threads cost more than they
            # give. And without any, a forked process inherits nothing that waits for one.
            self._stream.codec_context.thread_count = 1
            self._stream.thread_type = "NONE"
            self._index = build_index(self._container, self._stream, _source(self.path))
        except FileNotFoundError:
            raise
        except (av.FFmpegError, OSError, IndexError, VideoReadError) as error:
            raise VideoReadError(f"video {self.path} cannot be opened: {_reason(error)}") from error
        context = self._stream.codec_context
        self._frame_size = (context.height, context.width)
        self._writer = FrameWriter(*(size or self._frame_size), depth=depth)
        self._run: _Run | None = None
        self._last: av.VideoFrame | None = None
        self._at: int | None = None  # the number of `_last`
        self._alone = True
        self._may_skip = _knows_what_to_skip(context)

    @property
    def index(self) -> FrameIndex:
        """Times of the file's frames."""
        return self._index

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what `read` gives."""
        return self._writer.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what `read` gives."""
        return self._writer.dtype

    def read(
        self, timestamps: Sequence[float], tolerance_s: float, out: npt.NDArray[np.generic] | None = None
    ) -> npt.NDArray[np.generic]:
        """The frames nearest to some times.

        Args:
            timestamps (`Sequence[float]`): (T,) seconds, in any order, with repetitions.
            tolerance_s (`float`): A frame must be nearer to its time than this.
            out (`np.ndarray`, *optional*): (T, C, H, W) to fill, of `dtype`, or float32 for RGB in [0, 1]; a
                new array of `dtype` by default.

        Returns:
            (T, C, H, W): RGB in uint8 or float32, or depth in uint16.

        Raises:
            NoFrameNearError: The file has no frame near one of the times.
            VideoReadError: A frame is damaged or missing.
        """
        if out is None:
            out = np.empty((len(timestamps), *self.frame_shape), self.dtype)
        with self._lock:
            try:
                self._read_or_reindex(timestamps, tolerance_s, out)
            except VideoReadError as error:
                raise type(error)(f"video {self.path}: {error}", error.seconds) from error.__cause__
        return out

    def _read_or_reindex(
        self, timestamps: Sequence[float], tolerance_s: float, out: npt.NDArray[np.generic]
    ) -> None:
        """`_read`, and once more by what the packets say: the file's tables may be what is wrong."""
        try:
            self._read(self._index.nearest(timestamps, tolerance_s), out)
        except VideoReadError as error:
            if not self._index.from_tables or isinstance(error, NoFrameNearError):
                raise
            index = scan_packets(_source(self.path))
            if (
                np.isin(index.pts, self._index.pts).all()
                and np.isin(index.key_pts, self._index.key_pts).all()
            ):
                raise  # nothing new: the file was cut off, or is damaged elsewhere
            self._index = index
            self._read(index.nearest(timestamps, tolerance_s), out)

    def _read(self, numbers: npt.NDArray[np.int64], out: npt.NDArray[np.generic]) -> None:
        """Fill `out` with the frames of these numbers."""
        places: dict[int, list[int]] = {}
        for place, number in enumerate(numbers.tolist()):
            places.setdefault(number, []).append(place)
        wanted = sorted(places)
        forward = bool(wanted) and self._at is not None and self._goes_on(self._at, wanted[0])
        for number, following in zip_longest(wanted, wanted[1:]):
            first, *others = places[number]
            goes_on = forward if following is None else self._goes_on(number, following)
            frame = self._frame(number, goes_on=goes_on)
            self._writer.write(frame, out[first])
            for place in others:
                out[place] = out[first]

    def _frame(self, number: int, *, goes_on: bool) -> av.VideoFrame:
        """Decode frame `number`.

        Args:
            number (`int`): Of the frame.
            goes_on (`bool`): A frame soon after it is, or will probably be, asked for next.

        Raises:
            VideoReadError: It cannot be decoded, or is damaged.
        """
        pts = int(self._index.pts[number])
        if self._last is not None and self._last.pts == pts:
            return self._last
        near = self._run is not None and self._at is not None and self._goes_on(self._at, number)
        key = self._index.key_before(number)
        cause: BaseException | None = None
        for attempt, (start, alone) in enumerate(self._ways(key, alone=not goes_on)):
            try:
                if attempt or not near:
                    self._seek(start)
                frame = self._run.frame(pts, alone=alone) if self._run else None
            except av.FFmpegError as error:
                frame, cause = None, error
            if frame is not None and alone and frame.interlaced_frame:
                # Its other half may lie in the next packet.
                frame, self._alone = None, False
            if frame is not None:
                self._check(frame, number)
                if self._run and self._run.emptied:
                    self._run = None
                self._last, self._at = frame, number
                return frame
            self._run = self._last = None
        reason = _reason(cause) if cause else "the file ends before it, or does not hold it: was it cut off?"
        raise self._broken(number, f"cannot be decoded: {reason}") from cause

    def _ways(self, key: int, *, alone: bool) -> Iterator[tuple[int, bool]]:
        """Where to start decoding and whether for one frame alone, the cheapest first."""
        if alone and self._alone:
            yield key, True
        for start in range(key, max(key - _EARLIER_KEYFRAMES, -1) - 1, -1):
            yield start, False

    def _goes_on(self, at: int, number: int) -> bool:
        """Whether going on from frame `at` to `number` decodes no more than seeking does."""
        if at > number:
            return False
        key = self._index.key_before(number)
        start = int(np.searchsorted(self._index.pts, self._index.key_pts[key])) if key >= 0 else 0
        return start <= at + 1

    def _seek(self, key: int) -> None:
        """Stand before keyframe `key`; before everything where it is negative."""
        keys = self._index.key_seek
        start = int(keys[key]) if key >= 0 else max(min([0, *keys[:1].tolist()]) - _LONG_BEFORE, -(2**62))
        self._container.seek(start, stream=self._stream, backward=True)
        self._run = _Run(self._container, self._stream, may_skip=self._may_skip)

    def _check(self, frame: av.VideoFrame, number: int) -> None:
        """Raise `VideoReadError` if `frame` is not what it should be."""
        if frame.is_corrupt:
            raise self._broken(number, "is damaged: the decoder could not restore all of it")
        if (frame.height, frame.width) != self._frame_size:
            height, width = self._frame_size
            raise self._broken(
                number, f"is {frame.width}x{frame.height} in a video of {width}x{height}: was it damaged?"
            )

    def _broken(self, number: int, what: str) -> VideoReadError:
        """What to raise for a frame; nothing of the decoder's state is trusted any more."""
        self._run = self._last = self._at = None
        seconds = float(self._index.seconds[number])
        return VideoReadError(f"frame {number} of {len(self._index)} ({seconds:.3f} s) {what}", seconds)


class _Run:
    """Decoding forward from where a container stands.

    A decoder reads ahead. A damaged packet counts for the frames that are decoded after it, not for those
    that were only waiting to come out.

    Args:
        container (`InputContainer`): Standing before a keyframe, its decoder empty.
        stream (`VideoStream`): What to decode.
        may_skip (`bool`): The decoder can tell which frames no other frame needs.
    """

    def __init__(
        self, container: av.container.InputContainer, stream: av.VideoStream, *, may_skip: bool
    ) -> None:
        self._packets = container.demux(stream)
        self._context = stream.codec_context
        self._may_skip = may_skip
        self._ready: deque[av.VideoFrame] = deque()
        self._before_damage: set[int | None] = set()
        self._damage: av.FFmpegError | None = None
        self.emptied = False
        """Nothing comes any more: the container has to be put before a keyframe again."""

    def frame(self, pts: int, *, alone: bool) -> av.VideoFrame | None:
        """The frame of time `pts`, all before it skipped; `None` if another comes in its place, or no more.

        Args:
            pts (`int`): Its time in ticks.
            alone (`bool`): None after it is wanted: with frames that are decoded in another order than shown,
                the decoder need not wait for those between.

        Raises:
            av.FFmpegError: A packet that it may depend on is damaged.
        """
        while True:
            while self._ready:
                frame = self._ready.popleft()
                if frame.pts is not None and frame.pts >= pts:
                    return frame if frame.pts == pts else None
            if self._damage is not None and pts not in self._before_damage:
                raise self._damage
            packet = None if self.emptied else next(self._packets, None)
            if packet is None:
                return None
            self._skip(packet.pts is not None and packet.pts < pts)
            self._decode(packet.decode, packet.pts)
            if alone and packet.pts == pts and not self._has(pts):
                self.emptied = True
                self._decode(self._context.decode, pts)

    def _has(self, pts: int) -> bool:
        return any(frame.pts == pts for frame in self._ready)

    def _skip(self, wanted: bool) -> None:
        """Whether the next packet may be left out if no other depends on it."""
        if self._may_skip:
            self._context.skip_frame = "NONREF" if wanted else "DEFAULT"

    def _decode(self, decode: Callable[[], list[Any]], pts: int | None) -> None:
        try:
            self._ready.extend(decode())
        except av.EOFError:  # the decoder was emptied before
            return
        except av.FFmpegError as error:
            self._damage = self._damage or error
        if self._damage is None:
            self._before_damage.add(pts)


def _knows_what_to_skip(context: av.VideoCodecContext) -> bool:
    """Whether a decoder leaves out, when told to, only frames that no other frame needs.

    H.264 says so of each frame. HEVC says so of a frame's own temporal layer only, so there must be no more
    than one: its configuration record has their number in byte 21 (ISO/IEC 14496-15, 8.3.3.1).
    """
    if context.name == "hevc":
        record = context.extradata or b""
        return len(record) > 22 and record[0] == 1 and record[21] >> 3 & 7 == 1
    return bool(context.name == "h264")


def _source(path: str) -> Any:
    """What PyAV can open: the path, or a remote file.

    Raises:
        OSError: A remote file cannot be opened.
    """
    if "://" not in path:
        return path
    import fsspec  # type: ignore[import-untyped]  # remote files only

    return fsspec.open(path, "rb").open()


def _reason(error: BaseException) -> str:
    """What FFmpeg or the system said, in one line."""
    text = " ".join((getattr(error, "strerror", "") or str(error)).split())
    return text or type(error).__name__
