# SPDX-License-Identifier: Apache-2.0
"""Reads damaged videos in a process of its own: `python video_fuzz_child.py LIST`, one path a line.

Prints `reading PATH` before each file and `done` at the end, so that whoever started it can tell on which
file it crashed or hung. Anything but frames of the promised shape, or a `VideoReadError`, ends it.
"""

import resource
import sys
import threading

import numpy as np
from lerobot_camera_pyav.video.decoder import VideoDecoder
from lerobot_camera_pyav.video.errors import VideoReadError

_MEMORY = 6 * 2**30
"""Address space: a damaged size field must not make it ask for all of the machine's memory."""


def read_all(path: str, seed: int) -> int:
    """Read some frames at random; how many came."""
    try:
        decoder = VideoDecoder(path)
    except VideoReadError as error:
        check(error, path)
        return 0
    n_read, rng = 0, np.random.default_rng(seed)
    seconds = decoder.index.seconds
    for _ in range(6):
        times = rng.choice(seconds, size=int(rng.integers(1, 4)))
        try:
            frames = decoder.read(times.tolist(), 1e-4)
        except VideoReadError as error:
            check(error, path)
            continue
        assert frames.shape == (len(times), *decoder.frame_shape)
        n_read += len(times)
    return n_read


def check(error: VideoReadError, path: str) -> None:
    """It names the file, in one line."""
    if path not in str(error) or "\n" in str(error):
        raise SystemExit(f"this message is no help: {error}")


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with open(sys.argv[1]) as file:
        paths = file.read().splitlines()
    total = 0
    for seed, path in enumerate(paths):
        print("reading", path, flush=True)
        total += read_all(path, seed)
    assert threading.active_count() == 1, threading.enumerate()
    print("done", total, flush=True)


if __name__ == "__main__":
    main()
