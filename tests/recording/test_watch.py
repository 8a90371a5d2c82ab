# SPDX-License-Identifier: Apache-2.0
"""What the watch says over LeRobot's own writer, with a clock that tests turn."""

import logging
import sys
import time

import av
import numpy as np
import pytest
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets import video_utils
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.data import writer_hooks
from lerobot_ext.recording import hook, watch
from lerobot_ext.recording.candidates import Candidate
from lerobot_ext.recording.load import Load
from lerobot_ext.recording.spent import SPENT

FPS = 10
KEYS = ("observation.images.top", "observation.images.wrist")
FLAGS = Candidate("h264", "ultrafast", 23, threads=1, queue=400).flags()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def known():
    """Flags that are remembered for this machine; tests change it."""
    return []


@pytest.fixture
def watching(clock, known, caplog):
    caplog.set_level(logging.INFO)
    SPENT.take()
    writer_hooks.forget(watch.WATCH)  # an earlier test may have loaded all plugins
    watcher = watch.RecordingWatch(clock, lambda: 0.2 * clock.now, lambda load: list(known))
    writer_hooks.observe(watcher)
    yield watcher
    writer_hooks.forget(watcher)
    writer_hooks.uninstall()


def start(root, **more):
    joints = {"dtype": "float32", "shape": (2,), "names": None}
    video = {"dtype": "video", "shape": (64, 96, 3), "names": ["height", "width", "channels"]}
    features = {"observation.state": joints, "action": joints} | dict.fromkeys(KEYS, video)
    return LeRobotDataset.create("me/watched", FPS, features, root=root, video_backend="pyav", **more)


def streaming(root, **more):
    encoder = RGBEncoderConfig(vcodec="h264", preset="ultrafast", crf=23)
    named = {"encoder_threads": 1, "encoder_queue_maxsize": 400, "rgb_encoder": encoder} | more
    return start(root, streaming_encoding=True, **named)


def add(dataset, n, clock, interval=1 / FPS, spent=None):
    for number in range(n):
        clock.now += interval
        for part, seconds in (spent or {}).items():
            SPENT._seconds[part] = seconds
        picture = np.full((64, 96, 3), number % 255, np.uint8)
        state = np.zeros(2, np.float32)
        row = dict.fromkeys(KEYS, picture) | {"observation.state": state, "action": state}
        dataset.add_frame({**row, "task": "lift"})


def warnings(caplog):
    said = [r for r in caplog.records if r.name == watch.logger.name and r.levelno == logging.WARNING]
    return [record.getMessage() for record in said]


def test_a_recording_in_time_gets_a_summary_and_no_warning(tmp_path, clock, watching, caplog):
    dataset = streaming(tmp_path / "set")
    for _ in range(2):
        add(dataset, 60, clock)
        clock.now += 100  # the reset, and saving
        dataset.save_episode()
    dataset.finalize()
    assert warnings(caplog) == []
    assert "recorded at 10.0 Hz of 10; 0 of 108 frames came late" in caplog.text


def test_a_slow_recording_is_told_once_a_minute_with_what_to_run(tmp_path, clock, watching, caplog):
    dataset = streaming(tmp_path / "set")
    add(dataset, 100, clock, 0.2)
    (said,) = warnings(caplog)
    assert "runs at 5.0 Hz instead of 10" in said
    caplog.clear()
    add(dataset, 250, clock, 0.2)
    assert len(warnings(caplog)) == 1
    dataset.clear_episode_buffer()
    dataset.finalize()


def test_known_flags_are_named_where_the_cpu_is_busy(tmp_path, clock, known, watching, caplog):
    watching._cpu_clock = lambda: 100 * clock.now
    known[:] = FLAGS
    dataset = start(tmp_path / "set")  # PNG files
    add(dataset, 60, clock, 0.2)
    (said,) = warnings(caplog)
    assert "the CPU is busy" in said
    assert " ".join(FLAGS) in said
    dataset.clear_episode_buffer()
    dataset.finalize()


def test_who_uses_these_flags_already_is_told_otherwise(tmp_path, clock, known, watching, caplog):
    watching._cpu_clock = lambda: 100 * clock.now
    known[:] = FLAGS
    dataset = streaming(tmp_path / "set")
    add(dataset, 60, clock, 0.2)
    (said,) = warnings(caplog)
    assert "close other programs, or measure again" in said
    dataset.clear_episode_buffer()
    dataset.finalize()


def test_without_known_flags_the_command_that_finds_them_is_named(tmp_path, clock, watching, caplog):
    watching._cpu_clock = lambda: 100 * clock.now
    dataset = streaming(tmp_path / "set")
    add(dataset, 60, clock, 0.2)
    (said,) = warnings(caplog)
    assert "`lerobot-ext codec --cameras 2 --size 96x64 --fps 10`" in said
    dataset.clear_episode_buffer()
    dataset.finalize()


@pytest.mark.parametrize(
    ("spent", "said"),
    [
        ({"cameras": 0.15, "bus": 0.01}, "reading the cameras takes long"),
        ({"cameras": 0.01, "bus": 0.15}, "reading and writing the motors takes long"),
        ({"cameras": 0.01, "bus": 0.01}, "elsewhere than to writer, cameras and motors"),
        ({}, "it is the cameras, the motors, or what tells the arm"),
    ],
)
def test_slow_devices_get_no_advice_about_encoders(tmp_path, clock, watching, caplog, spent, said):
    dataset = start(tmp_path / "set")
    add(dataset, 60, clock, 0.2, spent)
    (warning,) = warnings(caplog)
    assert said in warning
    assert "codec" not in warning
    assert "rgb_encoder" not in warning
    dataset.clear_episode_buffer()
    dataset.finalize()


def test_dropped_pictures_are_told_with_the_episode_they_spoil(
    tmp_path, clock, watching, caplog, monkeypatch
):
    """Stock's encoder thread is held, so that the queue of two is full at the third frame."""
    real = video_utils._CameraEncoderThread.run

    def late(self):
        time.sleep(0.7)
        real(self)

    monkeypatch.setattr(video_utils._CameraEncoderThread, "run", late)
    dataset = streaming(tmp_path / "set", encoder_queue_maxsize=2)
    add(dataset, 8, clock)
    (said,) = warnings(caplog)
    assert "pictures are lost (1 of observation.images.top" in said
    assert "by frame 2)" in said
    assert "Record the episode again" in said
    dataset.save_episode()
    dataset.finalize()
    summary = warnings(caplog)[-1]
    assert "pictures were dropped in episode 0 (" in summary
    assert "delete_episodes" in summary
    with av.open(str(next(dataset.root.rglob("*top*/**/*.mp4")))) as video:
        shown = [frame.to_ndarray(format="rgb24").mean() for frame in video.decode(video=0)]
    assert len(shown) < 8, "stock now fills the gaps: the warning can go"


def test_an_episode_that_is_recorded_again_is_not_spoilt(tmp_path, clock, watching, caplog, monkeypatch):
    real = video_utils._CameraEncoderThread.run

    def late(self):
        time.sleep(0.5)
        real(self)

    monkeypatch.setattr(video_utils._CameraEncoderThread, "run", late)
    dataset = streaming(tmp_path / "set", encoder_queue_maxsize=2)
    add(dataset, 4, clock)
    dataset.clear_episode_buffer()
    monkeypatch.setattr(video_utils._CameraEncoderThread, "run", real)
    add(dataset, 2, clock)
    dataset.save_episode()
    dataset.finalize()
    assert len(warnings(caplog)) == 1


def test_a_writer_without_cameras_gets_no_flags(tmp_path, clock, watching, caplog):
    watching._cpu_clock = lambda: 100 * clock.now
    joints = {"dtype": "float32", "shape": (2,), "names": None}
    features = {"observation.state": joints, "action": joints}
    dataset = LeRobotDataset.create("me/joints", FPS, features, root=tmp_path / "set", video_backend="pyav")
    for _ in range(60):
        clock.now += 0.2
        state = np.zeros(2, np.float32)
        dataset.add_frame({"observation.state": state, "action": state, "task": "lift"})
    (said,) = warnings(caplog)
    assert said.endswith("Close other programs, or record at a lower --dataset.fps.")
    assert watch.load_of(dataset.writer) is None
    dataset.clear_episode_buffer()
    dataset.finalize()


def test_the_flags_of_a_writer_are_those_that_made_it(tmp_path):
    dataset = streaming(tmp_path / "set")
    assert set(FLAGS) <= watch.flags_of(dataset.writer)
    assert watch.load_of(dataset.writer) == Load(2, 96, 64, FPS)
    other = start(tmp_path / "png")
    assert watch.flags_of(other.writer) == set()


def test_only_a_process_that_records_is_watched(monkeypatch):
    called = []
    monkeypatch.setattr(watch, "start", lambda: called.append(1))
    hook.watch_where_datasets_are_written()
    assert called == [1]
    monkeypatch.setenv(hook.SWITCH, "off")
    hook.watch_where_datasets_are_written()
    monkeypatch.setenv(hook.SWITCH, "on")
    monkeypatch.delitem(sys.modules, "lerobot.datasets.dataset_writer")
    hook.watch_where_datasets_are_written()
    assert called == [1]
