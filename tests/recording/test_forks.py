# SPDX-License-Identifier: Apache-2.0
"""A forked process that frees an inherited decoder waits for ever; with ours it does not."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="this system does not fork")

FORK = """
import gc, multiprocessing, sys
import av
import numpy as np
from lerobot_ext.recording.forks import leave_what_is_inherited

if sys.argv[2] == "ours":
    leave_what_is_inherited()
    leave_what_is_inherited()
gc.disable()
with av.open(sys.argv[1], "w") as container:
    stream = container.add_stream("libx264", rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    for level in range(8):
        picture = np.full((64, 64, 3), 20 * level, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
    container.mux(stream.encode(None))


def decode():
    container = av.open(sys.argv[1])
    stream = container.streams.video[0]
    stream.codec_context.thread_type, stream.codec_context.thread_count = "SLICE", 2
    next(container.decode(stream))
    cycle = [container, stream]
    cycle.append(cycle)


decode()
child = multiprocessing.get_context("fork").Process(target=gc.collect)
child.start()
child.join(5)
print("ended" if child.exitcode == 0 else "stands still")
child.kill()
"""


@pytest.mark.parametrize(("whose", "what"), [("ours", "ended"), ("nobody's", "stands still")])
def test_a_forked_process_leaves_inherited_decoders_alone(tmp_path, whose, what):
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(tmp_path / "video.mp4"), whose],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[0] == what
