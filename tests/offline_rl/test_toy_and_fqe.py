# SPDX-License-Identifier: Apache-2.0
"""The corridor's values, and fitted Q evaluation that agrees with walking it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lerobot_ext.offline_rl.bounds import ValueBounds
from lerobot_ext.offline_rl.chunks import chunk_targets, hold_last
from lerobot_ext.offline_rl.fqe import EvaluationData, EvaluationOptions, fitted_q_evaluation
from lerobot_ext.offline_rl.toy import Corridor, CorridorLogs


def test_value_iteration_finds_the_powers_of_the_discount():
    corridor = Corridor(cells=4, discount=0.5)
    assert corridor.optimal_values().tolist() == [0.25, 0.5, 1.0, 0.0]
    chunks = corridor.optimal_chunk_values(2)
    assert chunks[2, (1, -1)] == 1.0  # the walk is over after the first move
    assert chunks[1, (1, 1)] == 0.5
    assert chunks[0, (0, 1)] == 0.25 * corridor.optimal_values()[1]
    assert corridor.returns(lambda cell: 1.0) == pytest.approx((0.25 + 0.5 + 1.0) / 3)


def test_batches_look_like_those_of_lerobot():
    logs = CorridorLogs.record(Corridor(cells=4, max_steps=5), walks=3, seed=0)
    ends = np.cumsum(logs.lengths) - 1
    batch = logs.batch(ends, horizon=2)
    assert batch["observation.state"].shape == (3, 2, 4)
    assert batch["action"].shape == (3, 2, 1)
    assert batch["action_is_pad"].tolist() == [[False, True]] * 3
    assert batch["observation.state_is_pad"].tolist() == [[False, True]] * 3
    assert batch["episode_index"].tolist() == [0, 1, 2]
    assert batch["action"][:, 0].equal(batch["action"][:, 1])  # LeRobot repeats the last frame


@pytest.mark.parametrize("move", [1.0, -1.0])
def test_evaluation_agrees_with_walking(move):
    """Logs of random walks tell what always going right is worth, and what always going left."""
    corridor, horizon = Corridor(cells=5), 2
    logs = CorridorLogs.record(corridor, walks=300, seed=1)
    batch = logs.batch(np.arange(logs.lengths.sum()), horizon)
    valid = ~batch["action_is_pad"]
    ended = torch.from_numpy(logs.episodes().terminal("success"))[batch["episode_index"]]
    at_end = batch["observation.state_is_pad"][:, 1]
    targets = chunk_targets(batch["next.reward"], valid, at_end, ended, corridor.discount)
    states = batch["observation.state"]
    starts = torch.eye(5)[:4]
    data = EvaluationData(
        features=states[:, 0],
        chunks=hold_last(batch["action"], valid).flatten(1),
        targets=targets,
        next_features=states[:, 1],
        next_chunks=torch.full((len(states), horizon), move),
        start_features=starts,
        start_chunks=torch.full((4, horizon), move),
    )
    found = fitted_q_evaluation(
        data, ValueBounds(0.0, 1.0), EvaluationOptions(steps=800, members=2, hidden=(64, 64))
    )
    expected = corridor.returns(lambda cell: move)
    assert found.value == pytest.approx(expected, abs=0.08)
    assert found.starts.shape == (2, 4)


def test_evaluation_needs_samples_and_starts():
    empty = torch.zeros(0, 3)
    data = EvaluationData(
        torch.zeros(2, 3),
        torch.zeros(2, 1),
        chunk_targets(
            *(torch.zeros(2, 1), torch.zeros(2, 1).bool(), torch.ones(2).bool(), torch.ones(2).bool()), 0.9
        ),
        torch.zeros(2, 3),
        torch.zeros(2, 1),
        empty,
        torch.zeros(0, 1),
    )
    with pytest.raises(ValueError, match="0 usable chunks and 0 first"):
        fitted_q_evaluation(data, ValueBounds(0.0, 1.0))
