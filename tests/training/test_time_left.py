# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from lerobot_ext.training.loop import TrainingRun
from lerobot_ext.training.time_left import TimeLeft, in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (185, "3m05s"), (3900, "1h05m"), (183_600, "2d03h")],
)
def test_durations_are_given_by_their_two_largest_units(seconds, words):
    assert in_words(seconds) == words


def test_the_pace_leaves_out_the_first_step_and_counts_pauses():
    now = 0.0
    eta = TimeLeft(clock=lambda: now)
    run = TrainingRun(Path(), first_step=100, total_steps=200, is_main=True, cfg=None)
    eta.started(run)
    now = 30.0  # workers started
    eta.stepped(run, 101)
    now = 39.0
    assert eta.describe(run, 110) == "eta:1m30s"  # 90 steps at 1 s
    now = 1000.0
    assert eta.describe(run, 110) == "eta:1m30s"  # a second log handler asks for the same line
    now = 59.0  # 10 steps and an evaluation of 10 s
    assert eta.describe(run, 120) == "eta:2m02s"  # 80 steps at 29 s for 19 steps
    assert eta.describe(run, 200).endswith("eta:0s")


def test_the_first_line_of_a_run_with_log_freq_1_has_a_guess():
    now = 0.0
    eta = TimeLeft(clock=lambda: now)
    run = TrainingRun(Path(), 0, 10, True, None)
    eta.started(run)
    now = 2.0
    eta.stepped(run, 1)
    assert eta.describe(run, 1) == "eta:18s"
