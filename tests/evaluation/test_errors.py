# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_ext.evaluation.errors import EpisodeErrors, break_down, summarize
from lerobot_ext.evaluation.smoothness import smoothness
from lerobot_ext.intervals import Estimate, ratio_interval


def test_a_mean_over_episodes_of_one_length_has_the_textbook_interval():
    # Means 1, 2, 3 of ten frames each: 2 ± t(2) * 1 / sqrt(3)
    found = ratio_interval([10.0, 20.0, 30.0], [10, 10, 10])
    half = 4.3027 / math.sqrt(3)
    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high) == (0.0, pytest.approx(2 + half, rel=1e-4))
    wide = ratio_interval([110.0, 120.0, 130.0], [10, 10, 10])
    assert wide.low == pytest.approx(12 - half, rel=1e-4)


def test_frames_count_alike_whatever_their_episode():
    assert ratio_interval([1.0, 9.0], [1, 3]).value == 2.5


def test_one_episode_has_no_interval_and_none_no_value():
    assert ratio_interval([3.0], [2]) == Estimate(1.5)
    assert ratio_interval([3.0, 0.0], [2, 0]) == Estimate(1.5)
    assert math.isnan(ratio_interval([], []).value)


def test_many_episodes_use_a_quantile_near_the_exact_one():
    # t(40) is 2.0211, t(120) 1.9799
    for n, quantile in ((41, 2.0211), (121, 1.9799)):
        values = [100.0 + (-1) ** place for place in range(n - 1)] + [100.0]
        found = ratio_interval(values, [1] * n)
        spread = np.std(values, ddof=1) / math.sqrt(n)
        assert found.high is not None
        assert (found.high - found.value) / spread == pytest.approx(quantile, abs=2e-4)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 50)), min_size=2, max_size=20))
def test_the_interval_holds_the_value(clusters):
    found = ratio_interval([total for total, _ in clusters], [count for _, count in clusters])
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value + 1e-9
    assert found.value <= found.high + 1e-9


def test_errors_are_summed_up_by_joint_step_and_task():
    nan = math.nan
    # Two predictions of two steps of two joints; the last step lies behind the end.
    first = np.array([[[1.0, -2.0], [3.0, 0.0]], [[1.0, 2.0], [nan, nan]]])
    second = np.array([[[-1.0, 4.0], [0.0, 0.0]]])
    found = break_down([EpisodeErrors(first, ("lift", "lift")), EpisodeErrors(second, ("place",))])
    assert found.whole.n == 5
    assert [entry.value for entry in found.whole.joint_mse] == pytest.approx([12 / 5, 24 / 5])
    assert [entry.value for entry in found.whole.joint_l1] == pytest.approx([6 / 5, 8 / 5])
    assert found.whole.joint_max == [3.0, 4.0]
    assert found.whole.max == 4.0
    assert found.whole.mse.value == pytest.approx(18 / 5)
    assert [entry.n for entry in found.by_horizon] == [3, 2]
    assert found.by_horizon[1].joint_l1[0].value == pytest.approx(1.5)
    assert {task: entry.n for task, entry in found.by_task.items()} == {"lift": 3, "place": 2}
    assert found.by_task["place"].joint_max == [1.0, 4.0]


def test_a_step_that_no_episode_reaches_has_no_figures():
    found = summarize([np.full((2, 1, 3), math.nan)])
    assert found.n == 0
    assert math.isnan(found.mse.value)
    assert math.isnan(found.max)


def test_jerk_of_a_cubic_is_its_third_derivative():
    fps = 20.0
    at = np.arange(30)[:, None] / fps
    cubic, line = 2 * at**3, 5 * at
    found = smoothness([cubic], [line], [[0]], fps)
    assert found.jerk == pytest.approx(12.0)
    assert found.recorded_jerk == pytest.approx(0.0, abs=1e-6)
    assert found.boundaries == 0
    assert math.isnan(found.seam)


def test_a_jump_where_a_chunk_begins_is_told_from_the_rest():
    predicted = np.array([0.0, 0.0, 4.0, 4.0, 4.0, 1.0])[:, None]
    recorded = np.arange(6.0)[:, None]
    found = smoothness([predicted], [recorded], [[0, 2, 5]], 10.0)
    assert found.boundaries == 2
    assert found.seam == pytest.approx(math.sqrt((16 + 9) / 2))
    assert found.inside == 0.0
    assert found.recorded_seam == 1.0
