# SPDX-License-Identifier: Apache-2.0
"""The jump guard: hold, clamp and raise, against the last command and the measured position."""

import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.processor.converters import create_transition
from lerobot_robot_processors.steps.jump_guard import JumpGuardStep

from lerobot_ext.testing import ProcessorStepContract
from lerobot_ext.testing.contracts.step_data import policy_transition, robot_transition


class TestContractOnARobot(ProcessorStepContract):
    def make_step(self):
        return JumpGuardStep(max_jump=5.0, reference="present")

    def make_transition(self):
        return robot_transition()


class TestContractOnTensors(ProcessorStepContract):
    def make_step(self):
        return JumpGuardStep(max_jump={"elbow": 0.2}, on_jump="hold", joint_names=["pan", "lift", "elbow"])

    def make_transition(self):
        return policy_transition(state=3, action=3)


def run(step, values, observation=None):
    return step(create_transition(action=values, observation=observation))["action"]


def test_a_jump_is_shortened_to_the_largest_step():
    step = JumpGuardStep(max_jump=5.0)
    run(step, {"pan.pos": 0.0, "lift.pos": 0.0})
    assert run(step, {"pan.pos": 40.0, "lift.pos": -3.0}) == {"pan.pos": 5.0, "lift.pos": -3.0}


def test_a_held_arm_waits_until_a_command_comes_near():
    step = JumpGuardStep(max_jump=5.0, on_jump="hold")
    run(step, {"pan.pos": 0.0, "lift.pos": 0.0})
    assert run(step, {"pan.pos": 40.0, "lift.pos": 1.0}) == {"pan.pos": 0.0, "lift.pos": 0.0}
    assert run(step, {"pan.pos": 4.0, "lift.pos": 1.0}) == {"pan.pos": 4.0, "lift.pos": 1.0}


def test_a_jump_is_an_error_where_asked_for():
    step = JumpGuardStep(max_jump=5.0, on_jump="raise")
    run(step, {"pan.pos": 0.0})
    with pytest.raises(ValueError, match=r"`pan` jumps from 0 to 40; `max_jump` is 5\."):
        run(step, {"pan.pos": 40.0})


def test_the_first_command_is_compared_with_the_measured_position():
    step = JumpGuardStep(max_jump=5.0)
    assert run(step, {"pan.pos": 40.0}, {"pan.pos": 10.0}) == {"pan.pos": 15.0}
    assert run(step, {"pan.pos": 40.0}, {"pan.pos": 10.0}) == {"pan.pos": 20.0}
    step.reset()
    assert run(step, {"pan.pos": 40.0}, {"pan.pos": 10.0}) == {"pan.pos": 15.0}


def test_the_measured_position_is_the_reference_where_asked_for():
    step = JumpGuardStep(max_jump=5.0, reference="present")
    for _ in range(2):
        assert run(step, {"pan.pos": 40.0}, {"pan.pos": 10.0}) == {"pan.pos": 15.0}
    with pytest.raises(ValueError, match=r"does not hold `pan\.pos`"):
        run(step, {"pan.pos": 40.0})


def test_a_run_of_jumps_is_reported_once(caplog):
    step = JumpGuardStep(max_jump=5.0)
    with caplog.at_level(logging.WARNING):
        run(step, {"pan.pos": 0.0})
        for _ in range(3):
            run(step, {"pan.pos": 90.0})
    assert [record.message for record in caplog.records] == [
        "The command for `pan` jumps from 0 to 90; `max_jump` is 5. It is shortened."
    ]


@given(
    values=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40),
    on_jump=st.sampled_from(["hold", "clamp"]),
)
@settings(deadline=None)
def test_no_command_let_through_is_further_than_allowed_from_the_last(values, on_jump):
    step = JumpGuardStep(max_jump=5.0, on_jump=on_jump)
    last = 0.0
    run(step, {"pan.pos": last})
    for value in values:
        now = run(step, {"pan.pos": value})["pan.pos"]
        assert math.isfinite(now)
        assert abs(now - last) <= 5.0 + 1e-12 * abs(last)
        last = now


def test_each_row_of_a_batch_is_held_on_its_own():
    step = JumpGuardStep(max_jump=1.0, on_jump="hold")
    run(step, torch.zeros(2, 2))
    assert run(step, torch.tensor([[0.5, 9.0], [0.5, 0.5]])).tolist() == [[0.0, 0.0], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_jump": None}, "`max_jump` is None"),
        ({"max_jump": 0.0}, "`max_jump` is 0.0"),
        ({"max_jump": 1.0, "reference": "target"}, "'last', 'present'"),
        ({"max_jump": 1.0, "on_jump": "stop"}, "'clamp', 'hold', 'raise'"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(wrong, words):
    with pytest.raises(ValueError, match=words):
        JumpGuardStep(**wrong)
