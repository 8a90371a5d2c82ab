# SPDX-License-Identifier: Apache-2.0
"""Grippers that are open or closed: thresholds, hysteresis, the way back."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.processor import TransitionKey
from lerobot.processor.converters import create_transition
from lerobot_robot_processors.steps.gripper import GripperBinaryStep, GripperValueStep

ACTION = TransitionKey.ACTION
QUARTERS = st.integers(-400, 400).map(lambda number: number / 4)
VALUES = st.floats(-200, 200, allow_nan=False)


def acted(step, action):
    return step(create_transition(action=action))[ACTION]


def slow_hysteresis(values, threshold, band):
    """Ten lines of what it means."""
    held, out = None, []
    for value in values:
        if held is None:
            held = value >= threshold
        elif held and value < threshold - band:
            held = False
        elif not held and value >= threshold + band:
            held = True
        out.append(float(held))
    return out


# Quarters, so that sums are exact.
@given(st.lists(QUARTERS, min_size=1, max_size=20), QUARTERS.map(abs), QUARTERS.map(abs))
@settings(deadline=None)
def test_hysteresis_over_calls_and_over_a_chunk_are_the_same(values, threshold, band):
    step = GripperBinaryStep(threshold=threshold, hysteresis=band)
    expected = slow_hysteresis(values, threshold, band)
    assert [acted(step, {"gripper.pos": value})["gripper.pos"] for value in values] == expected
    chunk = torch.zeros(2, len(values), 3, dtype=torch.float64)
    chunk[1, :, -1] = torch.tensor(values, dtype=torch.float64)
    chunk[0, :, -1] = 1.0 + threshold
    assert acted(step, chunk)[1, :, -1].tolist() == expected


@given(VALUES, VALUES, st.lists(st.booleans(), min_size=1, max_size=8))
@settings(deadline=None)
def test_labels_become_values_and_labels_again(opened, closed, states):
    if opened == closed:
        return
    step = GripperBinaryStep(open_value=opened, closed_value=closed, index=1)
    values = torch.tensor([[7.0, opened if state else closed] for state in states], dtype=torch.float64)
    labels = acted(step, values)
    assert labels[:, 1].tolist() == [float(state) for state in states]
    assert labels[:, 0].tolist() == [7.0] * len(states)
    assert torch.equal(acted(step.inverted(), labels), values)


def test_a_policys_gripper_does_not_flutter_while_it_acts():
    step = GripperValueStep(hysteresis=0.2, open_value=90, closed_value=-10)
    sent = [
        acted(step, torch.tensor([[share], [1 - share]])).flatten().tolist() for share in (0.6, 0.4, 0.2, 0.6)
    ]
    assert sent == [[90, -10], [90, -10], [-10, 90], [-10, 90]]
    step.reset()
    assert acted(step, torch.tensor([[0.6]])).item() == 90


def test_nan_is_refused_on_a_robot_and_stays_nan_in_a_tensor():
    with pytest.raises(ValueError, match=r"`gripper.pos` of the action is NaN"):
        acted(GripperBinaryStep(), {"gripper.pos": math.nan})
    assert math.isnan(acted(GripperValueStep(), torch.tensor([[math.nan]])).item())


def test_an_observation_may_be_named_or_a_state():
    step = GripperBinaryStep(part="observation", open_value=50)
    for key, value in (("gripper.pos", 40.0), ("observation.state", torch.tensor([40.0]))):
        after = step(create_transition(observation={key: value}))[TransitionKey.OBSERVATION]
        assert float(after[key]) == 1.0


def test_what_is_not_there_is_named():
    with pytest.raises(KeyError, match=r"no `gripper.pos`; it has `a.pos`"):
        acted(GripperBinaryStep(), {"a.pos": 1.0})
    with pytest.raises(ValueError, match=r"`index` \(3\) must be a place of 2"):
        acted(GripperBinaryStep(index=3), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="`open_value, closed_value`"):
        GripperBinaryStep(open_value=1, closed_value=1)
    with pytest.raises(ValueError, match=r"`threshold` \(101\)"):
        GripperBinaryStep(threshold=101)
    with pytest.raises(ValueError, match=r"`hysteresis` \(0.5\)"):
        GripperValueStep(hysteresis=0.5)
