# SPDX-License-Identifier: Apache-2.0
"""Chunk targets equal a slow loop that walks the episode frame by frame."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_ext.offline_rl.chunks import chunk_targets, hold_last, valid_steps


def slow_target(rewards, start, horizon, terminal, discount, keep_short):
    """Return, bootstrap and usability of the chunk at `start` of an episode with these rewards."""
    total, factor = 0.0, 1.0
    for step in range(horizon):
        if start + step >= len(rewards):  # the episode is over
            return (total, 0.0, True) if terminal and keep_short and step > 0 else (total, 0.0, False)
        total += factor * rewards[start + step]
        factor *= discount
    if start + horizon < len(rewards):
        return total, factor, True
    return total, 0.0, terminal


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    horizon=st.integers(1, 6),
    discount=st.floats(0.0, 1.0),
    keep_short=st.booleans(),
    data=st.data(),
)
def test_targets_equal_those_of_a_slow_loop(lengths, horizon, discount, keep_short, data):
    expected, rows = [], []
    for length in lengths:
        rewards = data.draw(st.lists(st.floats(-5, 5), min_size=length, max_size=length))
        terminal = data.draw(st.booleans())
        for start in range(length):
            expected.append(slow_target(rewards, start, horizon, terminal, discount, keep_short))
            window = [rewards[start + k] if start + k < length else math.nan for k in range(horizon)]
            inside = [start + k < length for k in range(horizon)]
            rows.append((window, inside, start + horizon >= length, terminal))
    windows, valid, at_end, terminals = (list(column) for column in zip(*rows, strict=True))
    found = chunk_targets(
        torch.tensor(windows, dtype=torch.float64),
        torch.tensor(valid),
        torch.tensor(at_end),
        torch.tensor(terminals),
        discount,
        keep_short=keep_short,
    )
    returns, bootstrap, usable = (list(column) for column in zip(*expected, strict=True))
    assert found.usable.tolist() == usable
    torch.testing.assert_close(found.returns, torch.tensor(returns, dtype=torch.float64))
    torch.testing.assert_close(found.bootstrap, torch.tensor(bootstrap, dtype=torch.float64))


def test_a_chunk_of_one_step_is_the_usual_temporal_difference():
    rewards = torch.tensor([[1.0], [2.0], [3.0]])
    found = chunk_targets(
        rewards,
        torch.ones(3, 1, dtype=torch.bool),
        torch.tensor([False, True, True]),
        torch.tensor([True, True, False]),
        0.5,
    )
    assert found.returns.tolist() == [1.0, 2.0, 3.0]
    assert found.bootstrap.tolist() == [0.5, 0.0, 0.0]
    assert found.usable.tolist() == [True, True, False]


def test_padding_without_any_valid_step_teaches_nothing():
    found = chunk_targets(
        torch.full((1, 3), torch.nan),
        torch.zeros(1, 3, dtype=torch.bool),
        torch.tensor([True]),
        torch.tensor([True]),
        0.9,
    )
    assert found.returns.tolist() == [0.0]
    assert not found.usable.any()


@pytest.mark.parametrize(
    ("rewards", "valid", "end", "discount", "named"),
    [
        ((2, 3), (2, 2), (2,), 0.9, "reward_delta_indices"),
        ((2, 3), (2, 3), (3,), 0.9, "at_end"),
        ((2, 3), (2, 3), (2,), 1.5, "discount"),
    ],
)
def test_what_does_not_fit_is_refused(rewards, valid, end, discount, named):
    ones = torch.ones(end, dtype=torch.bool)
    with pytest.raises(ValueError, match=named):
        chunk_targets(torch.ones(rewards), torch.ones(valid, dtype=torch.bool), ones, ones, discount)


def test_padded_actions_are_the_last_valid_one_whatever_they_were():
    actions = torch.arange(12.0).view(2, 3, 2)
    valid = torch.tensor([[True, True, False], [False, False, False]])
    held = hold_last(actions, valid)
    assert held.tolist() == [[[0, 1], [2, 3], [2, 3]], [[0, 0], [0, 0], [0, 0]]]
    assert hold_last(actions, torch.ones(2, 3, dtype=torch.bool)).equal(actions)


def test_steps_without_a_mask_are_valid():
    mask = torch.tensor([[False, True]])
    assert valid_steps({"action_is_pad": mask}, "action", (1, 2), torch.device("cpu")).tolist() == [
        [True, False]
    ]
    assert valid_steps({}, "action", (1, 2), torch.device("cpu")).all()
