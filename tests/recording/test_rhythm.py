# SPDX-License-Identifier: Apache-2.0
"""Whether a recording keeps its rate, over invented times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_ext.recording.rhythm import Rhythm, find_cause
from lerobot_ext.recording.spent import Spent

FPS = 30


def play(rhythm, intervals, parts=None, cpu=0.5, start=0.0, index=0):
    """Feed frames that come `intervals` seconds after each other; when the last one came."""
    now = start
    for interval in intervals:
        now += interval
        rhythm.frame(index, now, now * cpu, parts or {})
        index += 1
    return now


def test_a_loop_in_time_is_not_behind():
    rhythm = Rhythm(FPS, 2)
    play(rhythm, [1.02 / FPS] * 300)
    assert rhythm.behind() is None
    assert rhythm.mean_hz == pytest.approx(FPS / 1.02)
    assert rhythm.n_late == 0


def test_a_slow_loop_is_noticed_once_a_window_is_full():
    rhythm = Rhythm(FPS, 2)
    now = play(rhythm, [1 / 20] * 60)
    assert rhythm.behind() is None
    play(rhythm, [1 / 20] * 60, start=now, index=60)
    behind = rhythm.behind()
    assert behind.hz == pytest.approx(20)
    assert behind.fps == FPS


def test_a_loop_whose_steps_are_only_now_and_then_late_is_noticed_too():
    """Default AV1: most frames in time, a third blocked for 0.1 s, so that the median shows nothing."""
    rhythm = Rhythm(FPS, 2)
    play(rhythm, [1 / FPS, 1 / FPS, 0.1] * 60)
    assert rhythm.behind().hz == pytest.approx(18, abs=0.2)


@pytest.mark.parametrize("pause", [0.5, 2.0, 30.0])
def test_one_pause_is_no_slow_loop(pause):
    rhythm = Rhythm(FPS, 2)
    play(rhythm, [1 / FPS] * 120 + [pause] + [1 / FPS] * 40)
    assert rhythm.behind() is None
    assert rhythm.n_late == 1


@given(
    st.lists(st.sampled_from(["reset", "save", "again"]), max_size=6),
    st.floats(0.5, 100),
)
def test_what_happens_between_episodes_never_counts(between, pause):
    rhythm = Rhythm(FPS, 2)
    now = 0.0
    for kind in ["start", *between]:
        if kind == "save":
            rhythm.interrupt()
        # The first frames open encoders and take their time.
        now = play(rhythm, [pause, 0.3, 0.1] + [1 / FPS] * 150, start=now)
    assert rhythm.behind() is None
    assert rhythm.n_late == 0


def test_frames_from_a_buffer_do_not_make_a_rate():
    rhythm = Rhythm(FPS, 2)
    now = play(rhythm, [1 / FPS] * 60)
    now = play(rhythm, [0.001] * 300, start=now, index=60)
    play(rhythm, [1 / FPS] * 60, start=now, index=360)
    assert rhythm.mean_hz == pytest.approx(FPS)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.integers(1, 120))
def test_any_times_are_taken(intervals, fps):
    rhythm = Rhythm(fps, 2)
    play(rhythm, intervals)
    behind = rhythm.behind()
    assert behind is None or 0 < behind.hz < fps


@pytest.mark.parametrize(
    ("shares", "cpu", "fill", "dropped", "cause"),
    [
        ({"writer": 0.7, "cameras": 0.1}, 0.95, 0.2, False, "encoder"),
        ({"writer": 0.1}, 0.2, 0.9, False, "encoder"),
        ({"writer": 0.1}, 0.2, 0.0, True, "encoder"),
        ({"writer": 0.1, "cameras": 0.5}, 0.95, 0.0, False, "cpu"),
        ({"writer": 0.1, "cameras": 0.7, "bus": 0.1}, 0.3, 0.0, False, "cameras"),
        ({"writer": 0.1, "cameras": 0.1, "bus": 0.6}, 0.3, 0.0, False, "bus"),
        ({"writer": 0.1, "cameras": 0.1, "bus": 0.1}, 0.3, 0.0, False, "rest"),
        ({}, 0.3, 0.0, False, "rest"),
    ],
)
def test_the_cause_is_found(shares, cpu, fill, dropped, cause):
    assert find_cause(shares, cpu, fill, dropped=dropped) == cause


def test_parts_and_cpu_of_a_slow_window_are_told():
    rhythm = Rhythm(FPS, 2)
    play(rhythm, [0.05] * 150, {"writer": 0.03, "bus": 0.01}, cpu=1.0)
    behind = rhythm.behind()
    assert behind.parts_ms == pytest.approx({"writer": 30, "bus": 10})
    assert behind.cpu_share == pytest.approx(0.5)


def test_time_within_another_part_counts_once():
    times = iter([0.0, 1.0, 3.0, 10.0, 20.0, 21.0])
    spent = Spent(lambda: next(times))
    with spent.on("cameras"), spent.on("bus"):
        pass
    with spent.on("bus"):
        pass
    assert spent.take() == {"bus": 3.0, "cameras": 8.0}
    assert spent.take() == {}


def test_time_counts_although_the_device_failed():
    times = iter([0.0, 1.0, 1.5, 2.0])
    spent = Spent(lambda: next(times))
    with pytest.raises(ConnectionError), spent.on("cameras"), spent.on("bus"):
        raise ConnectionError
    assert spent.take() == {"bus": 0.5, "cameras": 1.5}
