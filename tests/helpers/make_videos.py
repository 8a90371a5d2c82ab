# SPDX-License-Identifier: Apache-2.0
"""Small video files of every kind, and what a decoder has to give for each of their frames."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

QUIET = {"libx265": {"x265-params": "log-level=none"}}
os.environ.setdefault("SVT_LOG", "0")


@dataclass(frozen=True)
class Kind:
    """How a file is encoded; `times` are frame times in 1/90000 s, evenly spaced by default."""

    codec: str
    gop: int
    n: int = 40
    width: int = 64
    height: int = 48
    pixels: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    suffix: str = "mp4"
    times: Sequence[int] | None = None
    fps: int = 30
    container: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        shape = f"{self.codec}-g{self.gop}-{self.width}x{self.height}-{self.pixels}-{self.suffix}"
        extra = "".join(f"-{value}" for value in (self.options | self.container).values())
        return shape + extra + ("-vfr" if self.times is not None else "")


def pictures(n: int, height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    """(H, W, 3) uint8 pictures, no two alike: a moving texture, its number as a bright row."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    texture = np.kron(blocks, np.ones((8, 8, 1), np.uint8))[:height, :width]
    made = []
    for number in range(n):
        picture = np.roll(texture, number * 3, axis=1)
        picture[number % height] = 255 - (number // height) * 40
        made.append(picture)
    return made


def write(path: Path, kind: Kind) -> Path:
    """Encode `kind` into `path`."""
    times = kind.times if kind.times is not None else [i * 90000 // kind.fps for i in range(kind.n)]
    options = QUIET.get(kind.codec, {}) | dict(kind.options)
    with av.open(str(path), "w", options=dict(kind.container)) as container:
        stream = container.add_stream(kind.codec, rate=kind.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = kind.width, kind.height, kind.pixels
        stream.codec_context.gop_size = kind.gop
        stream.codec_context.time_base = Fraction(1, 90000)
        for time, picture in zip(times, pictures(len(times), kind.height, kind.width), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Seconds (N,) and RGB (N, 3, H, W) of all frames, decoded from the start by PyAV's own conversion."""
    seconds, frames = [], []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            seconds.append(float(frame.pts * stream.time_base))
            frames.append(frame.to_ndarray(format="rgb24").transpose(2, 0, 1))
    return np.array(seconds), np.stack(frames)
