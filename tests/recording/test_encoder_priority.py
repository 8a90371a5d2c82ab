# SPDX-License-Identifier: Apache-2.0
"""SVT-AV1 as root takes real-time priority for good; with ours a recording stays as it was."""

import os
import subprocess
import sys

import pytest

from lerobot_ext.recording.priority import ordinary_priority

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getscheduler") or os.geteuid() != 0, reason="only root gets such a priority"
)

RECORD = """
import os, sys, time
from pathlib import Path
import numpy as np
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_ext.recording import hook

if sys.argv[2] == "ours":
    hook.encode_at_ordinary_priority()
streaming = sys.argv[3] == "streaming"
features = {
    "observation.images.top": {"dtype": "video", "shape": (64, 96, 3), "names": ["height", "width", "rgb"]},
    "action": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
}
dataset = LeRobotDataset.create(
    "me/videos", 10, features, root=Path(sys.argv[1]), rgb_encoder=RGBEncoderConfig(vcodec="libsvtav1"),
    streaming_encoding=streaming,
)
for frame in range(12):
    picture = np.full((64, 96, 3), 20 * frame, np.uint8)
    dataset.add_frame({"observation.images.top": picture, "action": np.zeros(2, np.float32), "task": "t"})
end = time.monotonic() + 20
while streaming and len(os.listdir("/proc/self/task")) < 12 and time.monotonic() < end:
    time.sleep(0.1)  # until the encoder has its threads
seen = {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
dataset.save_episode()
print("threads", sorted(seen), "loop", os.sched_getscheduler(0))
dataset.finalize()
assert LeRobotDataset("me/videos", root=Path(sys.argv[1]))[3]["observation.images.top"].shape == (3, 64, 96)
"""


@pytest.mark.parametrize("encoding", ["streaming", "afterwards"])
@pytest.mark.parametrize("whose", ["ours", "stock"])
def test_a_recording_stays_at_ordinary_priority(tmp_path, whose, encoding):
    done = subprocess.run(
        [sys.executable, "-c", RECORD, str(tmp_path / "data"), whose, encoding],
        capture_output=True,
        text=True,
        timeout=200,
        preexec_fn=_ordinary,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = done.stdout.strip().splitlines()[-1]
    if whose == "ours":
        assert told == "threads [0] loop 0"
    else:  # if this fails, SVT-AV1 has become modest, and `priority.py` can go
        assert told == ("threads [0, 1] loop 0" if encoding == "streaming" else "threads [0] loop 1")


def _ordinary():
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_the_right_to_a_priority_is_back_afterwards():
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with ordinary_priority(), pytest.raises(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.sched_setscheduler(0, *before)


def test_the_switch_leaves_encoders_alone(tmp_path, monkeypatch):
    from lerobot.datasets import dataset_writer

    from lerobot_ext.recording import hook, priority

    priority.uninstall()  # an earlier test may have installed it
    stock = dataset_writer.encode_video_frames
    monkeypatch.setenv(hook.PRIORITY_SWITCH, "off")
    hook.encode_at_ordinary_priority()
    assert dataset_writer.encode_video_frames is stock
    monkeypatch.setenv(hook.PRIORITY_SWITCH, "on")
    hook.encode_at_ordinary_priority()
    assert dataset_writer.encode_video_frames is not stock
    priority.uninstall()
    assert dataset_writer.encode_video_frames is stock
