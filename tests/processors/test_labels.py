# SPDX-License-Identifier: Apache-2.0
"""Rewards, ends and successes by hand-worked examples."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lerobot.processor import TransitionKey
from lerobot.processor.converters import batch_to_transition, create_transition, transition_to_batch
from lerobot_robot_processors.steps.labels import SUCCESS, LabelsStep

STATE = "observation.state"


def labelled(step, **given_parts):
    after = step(create_transition(**given_parts))
    extras = after[TransitionKey.COMPLEMENTARY_DATA]
    return after[TransitionKey.REWARD], after[TransitionKey.DONE], extras[SUCCESS]


def test_a_threshold_labels_each_sample():
    state = torch.tensor([[0.0, 5.0], [9.0, 5.0], [9.0, 1.0]])
    step = LabelsStep(indices=[0, 1], threshold=4.0, success_reward=10, step_reward=-1)
    reward, done, success = labelled(step, observation={STATE: state})
    assert reward.tolist() == [-1, 9, -1]
    assert done.tolist() == success.tolist() == [False, True, False]


def test_below_is_the_other_side():
    _, _, success = labelled(
        LabelsStep(rule="below", threshold=4.0), observation={STATE: torch.tensor([[4.0]])}
    )
    assert success.tolist() == [True]


def test_a_goal_costs_its_distance_at_each_time():
    state = torch.tensor([[[0.0, 0.0, 7.0], [3.0, 4.0, 7.0]]])
    step = LabelsStep(
        rule="near", indices=[0, 1], goal=[3, 4], threshold=0.5, distance_weight=0.1, step_reward=-0.5
    )
    reward, done, _ = labelled(step, observation={STATE: state})
    torch.testing.assert_close(reward, torch.tensor([[-1.0, 0.5]]))
    assert done.tolist() == [[False, True]]


def test_a_goal_may_be_an_observation():
    step = LabelsStep(rule="near", indices=[2], goal_key="observation.goal", threshold=1)
    state = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 3.0]])
    _, _, success = labelled(
        step, observation={STATE: state, "observation.goal": torch.tensor([[5.5], [5.5]])}
    )
    assert success.tolist() == [True, False]


def test_the_end_of_an_episode_is_rewarded_once():
    reward, done, success = labelled(LabelsStep(rule="end"), done=torch.tensor([False, True]))
    assert reward.tolist() == [0, 1]
    assert done.tolist() == success.tolist() == [False, True]


def test_an_end_and_a_reward_that_were_there_can_stay():
    step = LabelsStep(threshold=1, add=True, ends=False)
    reward, done, _ = labelled(
        step,
        observation={STATE: torch.tensor([[0.0], [1.0]])},
        reward=torch.tensor([2.0, 2.0]),
        done=torch.tensor([True, False]),
    )
    assert reward.tolist() == [2, 3]
    assert done.tolist() == [True, False]


def test_a_robots_numbers_are_labelled_with_plain_numbers():
    step = LabelsStep(rule="below", key="gripper.pos", threshold=10.0)
    assert labelled(step, observation={"gripper.pos": 3.0}) == (1.0, True, True)
    assert labelled(step, action={"gripper.pos": 30.0}) == (0.0, False, False)


def test_a_batch_carries_the_labels_under_lerobots_names():
    batch = {STATE: torch.tensor([[3.0]]), "action": torch.zeros(1, 1), "index": torch.tensor([0])}
    after = transition_to_batch(LabelsStep(threshold=1.0)(batch_to_transition(batch)))
    assert after["next.reward"].tolist() == [1.0]
    assert after["next.done"].tolist() == [True]
    assert after["next.success"].tolist() == [True]


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=5), st.floats(-5, 5, width=32))
def test_a_row_of_a_batch_is_labelled_as_alone(values, threshold):
    step = LabelsStep(threshold=threshold, step_reward=-0.1)
    rows = torch.tensor(values).unsqueeze(-1)
    reward, done, _ = labelled(step, observation={STATE: rows})
    for row, one in enumerate(rows):
        alone = labelled(step, observation={STATE: one})
        assert (float(alone[0]), bool(alone[1])) == (float(reward[row]), bool(done[row]))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"rule": "far"}, "`rule` \\('far'\\) must be one of above, below, near, end"),
        ({"rule": "near"}, "`goal, goal_key` \\(\\(None, None\\)\\)"),
        ({"goal": [1.0]}, "`goal, goal_key`"),
        ({"rule": "near", "goal": [1.0]}, "`threshold` \\(0.0\\) must be above 0"),
        ({"distance_weight": 1.0}, "`distance_weight`"),
        ({"indices": []}, "`indices`"),
    ],
)
def test_a_bad_field_is_named(fields, named):
    with pytest.raises(ValueError, match=named):
        LabelsStep(**fields)


def test_what_is_not_there_is_named():
    with pytest.raises(KeyError, match=r"reads `observation.cube`.*there are `observation.state`"):
        labelled(LabelsStep(key="observation.cube"), observation={STATE: torch.zeros(1, 1)})
    with pytest.raises(ValueError, match=r"`indices` \(\[4\]\).*has 1"):
        labelled(LabelsStep(indices=[4]), observation={STATE: torch.zeros(1, 1)})
