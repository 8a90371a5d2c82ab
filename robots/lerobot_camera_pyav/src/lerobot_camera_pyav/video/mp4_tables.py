# SPDX-License-Identifier: Apache-2.0
"""Reads when each frame of an MP4 file is shown, and which are keyframes, from the file's own tables.

FFmpeg has read the same tables when it opened the file, but PyAV 15 does not give them away, and finding the
times by reading every packet would read the whole file: seconds for a dataset's 200 MB on a cold disk. The
tables are a few kilobytes.

Only plain files are understood: one edit at most, no fragments, no negative offsets. For anything else the
answer is `None`, and `frame_index` reads the packets. Boxes and fields: ISO/IEC 14496-12.
"""

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

_MAX_MOOV = 256 * 2**20
"""Tables larger than this belong to no dataset: a damaged size field, rather."""


class SampleTable(NamedTuple):
    """Times of a track's samples in decoding order, in units of the track's time scale.

    `N` samples.

    Args:
        timescale (`int`): Ticks a second.
        pts (`np.ndarray`): (N,) int64 when each is shown.
        dts (`np.ndarray`): (N,) int64 when each is decoded.
        key (`np.ndarray`): (N,) bool: decoding can start here.
    """

    timescale: int
    pts: npt.NDArray[np.int64]
    dts: npt.NDArray[np.int64]
    key: npt.NDArray[np.bool_]


class _NotPlainError(Exception):
    """The file uses something that is left to FFmpeg, or is damaged."""


def read_video_table(file: IO[bytes]) -> SampleTable | None:
    """The sample table of an MP4 file's first video track.

    Args:
        file (`IO[bytes]`): Open for reading, seekable; at any position.

    Returns:
        `None` where the file is no MP4, not a plain one, or damaged.
    """
    try:
        moov = _read_moov(file)
        boxes = dict(_boxes(moov))
        if b"mvex" in boxes:  # fragmented: the samples are listed elsewhere
            return None
        movie_scale = _movie_timescale(boxes[b"mvhd"])
        for kind, track in _boxes(moov):
            if kind == b"trak" and _is_video(track):
                return _track_table(track, movie_scale)
    except (_NotPlainError, KeyError, struct.error, ValueError, OSError, OverflowError):
        return None
    return None


def _read_moov(file: IO[bytes]) -> bytes:
    """The contents of the file's `moov` box, wherever in the file it lies."""
    position, end = 0, file.seek(0, 2)
    while position + 8 <= end:
        file.seek(position)
        header = file.read(16)
        size, kind = struct.unpack_from(">I4s", header)
        start = 8
        if size == 1:
            [size] = struct.unpack_from(">Q", header, 8)
            start = 16
        elif size == 0:
            size = end - position
        if size < start:
            raise _NotPlainError("a box is shorter than its header")
        if kind == b"moov":
            if size > min(_MAX_MOOV, end - position):
                raise _NotPlainError("the tables are cut off or absurdly large")
            file.seek(position + start)
            return file.read(size - start)
        position += size
    raise _NotPlainError("no moov box")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and contents of each box in `data`."""
    position = 0
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        start = 8
        if size == 1:
            [size] = struct.unpack_from(">Q", data, position + 8)
            start = 16
        elif size == 0:
            size = len(data) - position
        if size < start or position + size > len(data):
            raise _NotPlainError("a box does not fit into its parent")
        yield kind, data[position + start : position + size]
        position += size


def _movie_timescale(mvhd: bytes) -> int:
    [scale] = struct.unpack_from(">I", mvhd, 20 if mvhd[0] == 1 else 12)
    return int(scale)


def _is_video(track: bytes) -> bool:
    media = dict(_boxes(dict(_boxes(track))[b"mdia"]))
    return media[b"hdlr"][8:12] == b"vide"


def _track_table(track: bytes, movie_scale: int) -> SampleTable:
    """The sample table of one `trak` box.

    Raises:
        _NotPlainError: It is none that this module understands.
    """
    boxes = dict(_boxes(track))
    media = dict(_boxes(boxes[b"mdia"]))
    header = media[b"mdhd"]
    [timescale] = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)
    stbl = dict(_boxes(dict(_boxes(media[b"minf"]))[b"stbl"]))
    [n] = struct.unpack_from(">I", stbl[b"stsz"], 8)
    durations = _run_lengths(stbl[b"stts"], n, "u4")
    dts = np.concatenate([[0], np.cumsum(durations[:-1])])
    offsets = _run_lengths(stbl[b"ctts"], n, "i4") if b"ctts" in stbl else np.zeros(n, np.int64)
    if not n or not timescale or not movie_scale or offsets.min() < 0:
        raise _NotPlainError("no samples, no time scale, or negative offsets")
    start = _edit_start(boxes, dts + offsets, timescale, movie_scale)
    key = np.ones(n, bool)
    if b"stss" in stbl:
        numbers = np.frombuffer(stbl[b"stss"], ">u4", offset=8).astype(np.int64) - 1
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < n):
            raise _NotPlainError("a keyframe that is no sample")
        key = np.zeros(n, bool)
        key[numbers] = True
    return SampleTable(int(timescale), dts + offsets - start, dts - start, key)


def _run_lengths(box: bytes, n: int, kind: str) -> npt.NDArray[np.int64]:
    """The `n` values of a box that lists (count, value) pairs."""
    [entries] = struct.unpack_from(">I", box, 4)
    pairs = np.frombuffer(box, [("count", ">u4"), ("value", f">{kind}")], offset=8, count=entries)
    if pairs["count"].sum(dtype=np.int64) != n:
        raise _NotPlainError("tables of different lengths")
    return np.repeat(pairs["value"].astype(np.int64), pairs["count"])


def _edit_start(boxes: dict[bytes, bytes], shown: npt.NDArray[np.int64], scale: int, movie_scale: int) -> int:
    """The media time at which showing starts, from the track's edit list.

    Raises:
        _NotPlainError: There are several edits, or the edit leaves frames out.
    """
    if b"edts" not in boxes:
        return 0
    edits = dict(_boxes(boxes[b"edts"]))[b"elst"]
    [count] = struct.unpack_from(">I", edits, 4)
    form = ">QqI" if edits[0] == 1 else ">IiI"
    duration, start, rate = struct.unpack_from(form, edits, 8)
    # Durations are in the movie's coarser units: rounded up to one of these, nothing is cut off.
    end = start + (duration + 1) * scale / movie_scale
    if count != 1 or rate != 0x10000 or shown.min() < start or shown.max() > end:
        raise _NotPlainError("an edit that is not a mere shift")
    return int(start)
