# SPDX-License-Identifier: Apache-2.0
"""Measuring with LeRobot's own encoder objects: small pictures, real files."""

import logging
import os

import pytest

from lerobot_ext.cli.command import CommandError
from lerobot_ext.recording import source, survey
from lerobot_ext.recording.candidates import STOCK, Candidate
from lerobot_ext.recording.load import Load
from lerobot_ext.recording.record_path import record
from lerobot_ext.recording.scene import scene
from lerobot_ext.recording.trial import TrialError, encode, opens, pace, quiet, view

SMALL = Load(2, 96, 64, 10)
QUICK = Candidate("h264", "ultrafast", 23, threads=1, queue=20)


@pytest.fixture(autouse=True)
def silence():
    with quiet():
        yield


@pytest.fixture(scope="module")
def pictures():
    return list(scene(12, 0, 64, 96))


def test_an_encode_says_what_it_cost_and_what_came_out(tmp_path, pictures):
    good = encode(QUICK, SMALL, pictures, tmp_path, 12)
    bad = encode(Candidate("h264", "ultrafast", 45, threads=1), SMALL, pictures, tmp_path, 12)
    assert good.frames_per_s > 0
    assert good.cpu_ms > 0
    assert good.decode_cpu_ms > 0
    assert good.psnr > bad.psnr + 3
    assert good.kb > bad.kb
    assert not list(tmp_path.iterdir())


def test_a_reader_that_does_not_find_the_frames_is_noticed(tmp_path, pictures, monkeypatch):
    from lerobot_ext.recording import trial

    def misses(*_, **__):
        raise trial.video_utils.FrameTimestampError("33 ms off")

    monkeypatch.setattr(trial.video_utils, "decode_video_frames", misses)
    assert encode(QUICK, SMALL, pictures, tmp_path, 12).decode_cpu_ms is None


def test_a_reader_that_gives_the_frame_before_is_noticed(tmp_path, pictures, monkeypatch):
    from lerobot_ext.recording import trial

    real = trial.video_utils.decode_video_frames

    def one_early(path, times, *words, **named):
        return real(path, [max(0.0, when - 0.1) for when in times], *words, **named)

    monkeypatch.setattr(trial.video_utils, "decode_video_frames", one_early)
    assert encode(QUICK, SMALL, pictures, tmp_path, 12).decode_cpu_ms is None


def test_a_slow_encoder_is_seen_to_fall_behind(tmp_path, pictures, monkeypatch):
    """The encoder's thread takes three frames a second; ten come."""
    import time

    from lerobot_ext.recording import trial

    real = trial.video_utils._CameraEncoderThread.run

    def slow(self):
        get = self.frame_queue.get

        def late_get(*words, **named):
            time.sleep(0.3)
            return get(*words, **named)

        self.frame_queue.get = late_get
        real(self)

    monkeypatch.setattr(trial.video_utils._CameraEncoderThread, "run", slow)
    fed = pace(QUICK, SMALL, pictures, tmp_path, fps=10, seconds=1.6)
    assert fed.kept_up < 0.9


def test_a_steady_feed_that_is_held_is_seen_to_be(tmp_path, pictures):
    fed = pace(QUICK, SMALL, pictures, tmp_path, fps=10, seconds=0.8)
    assert (fed.ticks, fed.dropped) == (8, 0)
    assert fed.kept_up == 1
    assert fed.cpu_ms > 0


def test_an_encoder_that_does_not_exist_here_is_told(tmp_path, pictures):
    absent = next(name for name in ("h264_videotoolbox", "h264_qsv", "h264_vaapi") if opens(name))
    with pytest.raises(TrialError):
        encode(Candidate(absent, None, 24), SMALL, pictures, tmp_path, 12)


def test_settings_that_the_encoder_refuses_are_told(tmp_path, pictures):
    with pytest.raises(TrialError):
        encode(Candidate("h264", "warp", 23), SMALL, pictures, tmp_path, 12)


@pytest.mark.parametrize("candidate", [QUICK, None], ids=["streaming", "PNG"])
def test_a_recording_has_every_frame(tmp_path, pictures, candidate):
    recorded = record(candidate, SMALL, pictures, tmp_path, 0.8)
    assert recorded.frames >= 4
    assert recorded.dropped == 0
    assert 0 < recorded.hz <= 10.5
    assert recorded.save_s > 0
    assert not list(tmp_path.iterdir())


def test_cameras_see_different_pictures_without_an_end(pictures):
    first, second = view(pictures, 0), view(pictures, 1)
    assert any((next(first) != next(second)).any() for _ in range(3))
    for _ in range(100):
        next(first)


def test_pictures_come_from_a_video_and_from_a_dataset(tmp_path):
    from video_dataset import write_dataset

    root = write_dataset(tmp_path / "set", "h264")
    load = Load(1, 128, 96, 10)
    of_dataset = source.pictures(str(root), load, 5)
    video = next(root.rglob("*.mp4"))
    assert [picture.shape for picture in of_dataset] == [(96, 128, 3)] * 5
    assert len(source.pictures(str(video), load, 1000)) == 23


@pytest.mark.parametrize("made", ["nothing", "text", "broken dataset", "no videos"])
def test_a_source_that_gives_no_pictures_is_refused(tmp_path, made):
    path = tmp_path / "source"
    if made == "text":
        path.write_text("no video")
    elif made != "nothing":
        (path / "meta").mkdir(parents=True)
        (path / "meta/info.json").write_text("[]" if made == "broken dataset" else '{"features": {}}')
    with pytest.raises(CommandError) as refused:
        source.pictures(str(path), SMALL, 5)
    assert str(path) in str(refused.value)
    assert refused.value.remedy


def test_silence_ends_and_what_is_said_to_people_is_heard(capfd):
    """`silence` holds already; within and after another one, all is as it was."""
    before = os.fstat(2).st_ino, logging.root.manager.disable
    with quiet():
        os.write(2, b"x264 talks\n")
    assert (os.fstat(2).st_ino, logging.root.manager.disable) == before
    assert "x264 talks" not in capfd.readouterr().err


def test_a_survey_chooses_verifies_and_compares(tmp_path, pictures):
    plan = survey.Plan(SMALL, seconds=0.6, quick=True, folder=tmp_path)
    told = []
    found = survey.survey(plan, pictures, told.append)
    assert survey.stock_row(found).candidate == STOCK
    assert found.png is not None
    assert told
    if found.chosen is not None:  # a busy machine may hold nothing, even of this size
        assert found.verified.frames >= 4
        assert found.chosen.holds


def test_a_survey_says_what_else_would_hold(tmp_path, pictures, monkeypatch):
    heavy = Load(2, 96, 64, 10)
    monkeypatch.setattr(survey.choose, "shortfall", lambda fed: "too slow" if fed.fps > 11 else "")
    plan = survey.Plan(heavy, seconds=0.5, vcodec="libsvtav1", folder=tmp_path, headroom=0.2)
    found = survey.survey(plan, pictures, lambda _: None)
    assert found.chosen is None
    assert found.lighter["fps"][0] == Load(2, 96, 64, 5)
