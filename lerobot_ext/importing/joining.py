# SPDX-License-Identifier: Apache-2.0
"""Puts the videos of segments behind each other without encoding again."""

import os
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av


def join_videos(parts: Sequence[tuple[Path, int]], target: Path, fps: int) -> None:
    """Write one video of several that were encoded alike.

    A part begins where the frames before it end, by their number: LeRobot's `concatenate_video_files` adds up
    the durations that the files name, which drift where a codec reorders frames.

    Args:
        parts (`Sequence`): Files in order, each with its number of frames.
        target (`Path`): The new file.
        fps (`int`): Frames a second.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if len(parts) == 1:
        link_or_copy(parts[0][0], target)
        return
    before = 0
    with av.open(str(target), "w", options={"movflags": "faststart"}) as new:
        copy = None
        for path, n_frames in parts:
            with av.open(str(path)) as old:
                stream = old.streams.video[0]
                if copy is None:
                    copy = new.add_stream_from_template(template=stream, opaque=True)
                    copy.time_base = stream.time_base
                shift = round(Fraction(before, fps) / stream.time_base)
                for packet in old.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = copy
                    new.mux(packet)
            before += n_frames


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file that nobody will write into; a copy where there are no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
