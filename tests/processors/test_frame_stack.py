# SPDX-License-Identifier: Apache-2.0
"""Histories: what is in them, when they begin, and that shuffled samples have none."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.processor import TransitionKey
from lerobot.processor.converters import create_transition
from lerobot_robot_processors.steps.frame_stack import FrameStackStep

STATE, PICTURE = "observation.state", "observation.images.top"


def seen(step, key, value, **extras):
    after = step(create_transition(observation={key: value}, complementary_data=extras))
    return after[TransitionKey.OBSERVATION]


@given(st.integers(1, 4), st.integers(1, 7), st.integers(0, 2), st.sampled_from([STATE, PICTURE]))
@settings(deadline=None)
def test_a_stack_is_the_last_frames_oldest_first(frames, moments, rows, key):
    step = FrameStackStep(frames, [key])
    one = (2, 3, 4) if key == PICTURE else (5,)
    batch = (rows,) if rows else ()
    history = [torch.full((*batch, *one), float(now)) for now in range(moments)]
    for now, value in enumerate(history):
        stacked = seen(step, key, value)[key]
        assert stacked.shape == (*batch, frames, *one)
        expected = [float(max(0, now - frames + 1 + place)) for place in range(frames)]
        found = stacked.movedim(len(batch), 0).reshape(frames, -1)
        assert [set(row.tolist()) for row in found] == [{number} for number in expected]


def test_concatenated_pictures_are_channels_and_states_are_wider():
    step = FrameStackStep(2, ["observation.*"], "concatenate")
    observation = {STATE: torch.ones(3, 5), PICTURE: torch.ones(3, 2, 4, 6)}
    after = step(create_transition(observation=observation))[TransitionKey.OBSERVATION]
    assert (after[STATE].shape, after[PICTURE].shape) == ((3, 10), (3, 4, 4, 6))


def test_a_robots_pictures_and_numbers():
    step = FrameStackStep(2, ["top"])
    array = np.zeros((4, 6, 3), np.uint8)
    assert seen(step, "top", array)["top"].shape == (2, 4, 6, 3)
    named = FrameStackStep(3, ["a.pos"], "concatenate")
    for value in (1.0, 2.0, 3.0):
        after = seen(named, "a.pos", value)
    assert after == {"a.pos": 3.0, "a.pos.1": 2.0, "a.pos.2": 1.0}
    with pytest.raises(ValueError, match=r"`layout` \('stack'\) must be concatenate .*`a.pos`"):
        seen(FrameStackStep(2, ["a.pos"]), "a.pos", 1.0)


def test_an_episode_begins_with_reset_or_other_rows():
    step = FrameStackStep(2)
    seen(step, STATE, torch.zeros(2, 1))
    step.reset()
    assert seen(step, STATE, torch.ones(2, 1))[STATE].flatten().tolist() == [1, 1, 1, 1]
    assert seen(step, STATE, torch.full((1, 1), 7.0))[STATE].flatten().tolist() == [7, 7]


def test_what_was_seen_survives_saving():
    step = FrameStackStep(3, ["*"], "concatenate")
    moments = [
        {STATE: torch.rand(2, 4), "top": np.random.rand(2, 3, 1), "a.pos": float(now)} for now in range(5)
    ]
    for moment in moments[:4]:
        step(create_transition(observation=dict(moment)))
    other = FrameStackStep(**json.loads(json.dumps(step.get_config())))
    other.load_state_dict(step.state_dict())
    first, second = (
        each(create_transition(observation=dict(moments[4])))[TransitionKey.OBSERVATION]
        for each in (step, other)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_samples_of_a_dataset_bring_their_history_or_are_refused():
    step = FrameStackStep(2, layout="concatenate")
    stacked = torch.arange(12.0).view(2, 2, 3)
    assert torch.equal(seen(step, STATE, stacked, index=torch.arange(2))[STATE], stacked.view(2, 6))
    with pytest.raises(ValueError, match=r"`observation.state` \(2, 3\).*observation_delta_indices"):
        seen(step, STATE, stacked[:, 0], index=torch.arange(2))
    assert step.state_dict() == {}


def test_a_key_that_is_not_there_is_named():
    with pytest.raises(KeyError, match=r"no observation matches `observation.state`; there are `a`"):
        seen(FrameStackStep(), "a", torch.zeros(1))
