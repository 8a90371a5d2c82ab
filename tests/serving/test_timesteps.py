# SPDX-License-Identifier: Apache-2.0
"""The queue of numbered actions: nothing is executed twice, late actions are dropped, overlaps blended."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from lerobot.async_inference.configs import get_aggregate_function

from lerobot_ext.serving.timesteps import Merged, TimestepQueue


def queue(blend="latest_only") -> TimestepQueue:
    return TimestepQueue(get_aggregate_function(blend))


def chunk(first: int, length: int, offset: float = 0.0) -> np.ndarray:
    """Actions that show their own step."""
    return (np.arange(first, first + length, dtype=np.float32) + offset)[:, None]


def test_actions_come_in_order_with_their_numbers():
    actions = queue()
    actions.merge(0, chunk(0, 3))
    assert [actions.pop()[0] for _ in range(3)] == [0, 1, 2]
    assert actions.pop() is None
    assert actions.next_step == 3


def test_actions_whose_step_is_over_are_dropped():
    actions = queue()
    actions.merge(0, chunk(0, 5))
    for _ in range(3):
        actions.pop()
    assert actions.merge(1, chunk(1, 6)) == Merged(late=2, blended=2, added=2)
    assert [actions.pop()[0] for _ in range(4)] == [3, 4, 5, 6]


def test_overlaps_are_blended_with_lerobots_functions():
    actions = queue("weighted_average")
    actions.merge(0, chunk(0, 2))
    actions.merge(0, chunk(0, 2, offset=10))
    step, value = actions.pop()
    assert step == 0
    np.testing.assert_allclose(value, [0.3 * 0 + 0.7 * 10])


def test_an_older_chunk_changes_nothing():
    actions = queue()
    actions.merge(4, chunk(4, 2))
    assert actions.merge(1, chunk(1, 6, offset=99)) == Merged(late=6, blended=0, added=0)
    assert actions.pop()[1].tolist() == [4.0]


def test_fill_is_a_share_of_the_longest_chunk():
    actions = queue()
    assert actions.fill() == 0.0
    actions.merge(0, chunk(0, 4))
    actions.pop()
    assert actions.fill() == 0.75


steps = st.lists(
    st.one_of(
        st.tuples(st.just("pop"), st.just(0), st.just(0)),
        st.tuples(st.just("merge"), st.integers(0, 40), st.integers(1, 12)),
    ),
    max_size=60,
)


@given(steps)
def test_executed_numbers_rise_whatever_arrives(script):
    actions, executed = queue(), []
    for what, first, length in script:
        if what == "merge":
            before = len(actions)
            merged = actions.merge(first, chunk(first, length))
            assert len(actions) == before + merged.added
            assert merged.late + merged.blended + merged.added == length
        elif (popped := actions.pop()) is not None:
            assert popped[1].tolist() == [popped[0]]
            executed.append(popped[0])
    assert executed == sorted(set(executed))
