# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_ext.labelling import rewards


def test_sparse_success_rewards_the_last_step():
    assert rewards.sparse_success(3, success=True).tolist() == [0, 0, 1]
    assert rewards.sparse_success(3, success=False).tolist() == [0, 0, 0]


def test_step_cost_ends_with_success():
    assert rewards.step_cost(3, success=True).tolist() == [-1, -1, 0]
    assert rewards.step_cost(3, success=False).tolist() == [-1, -1, -1]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(0, 1))
def test_returns_are_the_discounted_sums(values, discount):
    values = np.array(values)
    slow = [
        sum(discount ** (later - step) * values[later] for later in range(step, len(values)))
        for step in range(len(values))
    ]

    assert rewards.returns(values, discount) == pytest.approx(slow, rel=1e-5, abs=1e-5)
