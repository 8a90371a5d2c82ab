# SPDX-License-Identifier: Apache-2.0
"""Relative actions and back: exact, by the right state, with joints left alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.policies.factory import _reconnect_relative_absolute_steps
from lerobot.processor import DataProcessorPipeline, TransitionKey
from lerobot.processor.converters import create_transition, identity_transition
from lerobot_robot_processors.steps.relative_actions import AbsoluteActionsStep, RelativeActionsStep

STATE = "observation.state"


def pair(**fields):
    step = RelativeActionsStep(**fields)
    return step, AbsoluteActionsStep(relative_step=step)


def moment(state=None, action=None):
    return create_transition(observation=None if state is None else {STATE: state}, action=action)


@given(
    st.sampled_from([(5,), (3, 5), (3, 4, 5)]),
    st.integers(0, 2),
    st.lists(st.integers(-5, 4), max_size=3),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_the_inverse_gives_back_the_actions(shape, extra, excluded, seed):
    drawn = torch.Generator().manual_seed(seed)
    action = torch.randn(shape, generator=drawn, dtype=torch.float64) * 90
    rows = shape[:1] if len(shape) > 1 else ()
    state = torch.randn(*rows, 5 + extra, generator=drawn, dtype=torch.float64) * 90
    step, inverse = pair(exclude_indices=excluded)
    relative = step(moment(state, action))[TransitionKey.ACTION]
    kept = sorted({place % 5 for place in excluded})
    torch.testing.assert_close(relative[..., kept], action[..., kept], rtol=0, atol=0)
    # In a postprocessor the state is gone, and the pair remembers it.
    back = inverse(moment(action=relative))[TransitionKey.ACTION]
    torch.testing.assert_close(back, action, rtol=0, atol=1e-6)


def test_one_sample_is_a_row_of_the_batch():
    state, action = torch.randn(3, 5), torch.randn(3, 4, 5)
    step, _ = pair()
    batch = step(moment(state, action))[TransitionKey.ACTION]
    for row in range(3):
        one = step(moment(state[row : row + 1], action[row : row + 1]))[TransitionKey.ACTION]
        torch.testing.assert_close(one[0], batch[row], rtol=0, atol=0)


def test_of_several_frames_the_last_counts():
    state, action = torch.randn(2, 3, 5), torch.randn(2, 4, 5)
    relative = pair()[0](moment(state, action))[TransitionKey.ACTION]
    torch.testing.assert_close(relative, action - state[:, -1:], rtol=0, atol=0)


def test_a_chunk_played_from_a_queue_stays_relative_to_its_first_frame():
    step, inverse = pair(n_action_steps=3)
    sent = []
    for now in range(7):
        step(moment(torch.tensor([[float(now)]])))
        sent.append(float(inverse(moment(action=torch.tensor([[0.5]])))[TransitionKey.ACTION]))
    assert sent == [0.5, 0.5, 0.5, 3.5, 3.5, 3.5, 6.5]
    step.reset()
    step(moment(torch.tensor([[9.0]])))
    assert float(inverse(moment(action=torch.tensor([[0.5]])))[TransitionKey.ACTION]) == 9.5


def test_a_whole_chunk_is_relative_to_the_newest_state():
    step, inverse = pair(n_action_steps=8)
    for now in (1.0, 2.0):
        step(moment(torch.tensor([[now]])))
    chunk = inverse(moment(action=torch.zeros(1, 4, 1)))[TransitionKey.ACTION]
    assert chunk.flatten().tolist() == [2.0] * 4


def test_lerobot_connects_the_pair_after_loading(tmp_path):
    for name, step in (("pre", RelativeActionsStep(exclude_indices=[0])), ("post", AbsoluteActionsStep())):
        DataProcessorPipeline([step], name).save_pretrained(tmp_path)
    before, after = (
        DataProcessorPipeline.from_pretrained(
            tmp_path, f"{name}.json", to_transition=identity_transition, to_output=identity_transition
        )
        for name in ("pre", "post")
    )
    _reconnect_relative_absolute_steps(before, after)
    before(moment(torch.tensor([[10.0, 20.0]])))
    back = after(moment(action=torch.tensor([[1.0, 2.0]])))[TransitionKey.ACTION]
    assert back.tolist() == [[1.0, 22.0]]


def test_a_robots_numbers_go_by_their_names():
    step = RelativeActionsStep(exclude_joints=["gripper"])
    inverse = AbsoluteActionsStep(exclude_joints=["gripper"])
    given_transition = create_transition(
        observation={"a.pos": 10.0, "gripper.pos": 5.0},
        action={"a.pos": 12.0, "gripper.pos": 80.0, "enabled": 1},
    )
    there = step(given_transition)
    assert there[TransitionKey.ACTION] == {"a.pos": 2.0, "gripper.pos": 80.0, "enabled": 1}
    assert inverse(there)[TransitionKey.ACTION] == given_transition[TransitionKey.ACTION]


def test_what_cannot_be_relative_is_named():
    with pytest.raises(ValueError, match=r"`exclude_joints`.*needs `action_names`"):
        pair(exclude_joints=["gripper"])[0](moment(torch.zeros(1, 2), torch.zeros(1, 2)))
    with pytest.raises(ValueError, match=r"`exclude_joints` \('griper'\) .*gripper.pos"):
        RelativeActionsStep(exclude_joints=["griper"], action_names=["gripper.pos"])
    with pytest.raises(ValueError, match=r"`exclude_indices` \(7\)"):
        pair(exclude_indices=[7])[0](moment(torch.zeros(1, 2), torch.zeros(1, 2)))
    with pytest.raises(ValueError, match="has 1 numbers and the action 2"):
        pair()[0](moment(torch.zeros(1, 1), torch.zeros(1, 2)))
    with pytest.raises(KeyError, match=r"observation\.state"):
        pair()[0](moment(action=torch.zeros(1, 2)))
    with pytest.raises(RuntimeError, match="no state was seen yet"):
        pair()[1](moment(action=torch.zeros(1, 2)))
    with pytest.raises(RuntimeError, match="connected to none"):
        AbsoluteActionsStep()(moment(action=torch.zeros(1, 2)))
