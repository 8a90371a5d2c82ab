# SPDX-License-Identifier: Apache-2.0
"""The limiter: no bound is ever broken, an allowed command passes, others are approached without
overshoot."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.processor.converters import create_transition
from lerobot_robot_processors.motion.profile import FrameBounds, JointProfile, acceleration_for
from lerobot_robot_processors.steps.motion_limits import MotionLimitsStep

from lerobot_ext.testing import ProcessorStepContract
from lerobot_ext.testing.contracts.step_data import JOINTS, policy_transition, robot_transition

FPS = 30.0
LIMITS = {
    "position": {"shoulder_lift": [-80.0, 60.0], "gripper": [0.0, 100.0]},
    "velocity": 120.0,
    "acceleration": 600.0,
    "jerk": 6000.0,
}


class TestContractOnARobot(ProcessorStepContract):
    def make_step(self):
        return MotionLimitsStep(**LIMITS)

    def make_transition(self):
        return robot_transition()


class TestContractOnTensors(ProcessorStepContract):
    def make_step(self):
        return MotionLimitsStep(velocity=1.0, acceleration=10.0, invalid="raise")

    def make_transition(self):
        return policy_transition(state=6, action=6)


def differences(commands, bounds):
    """By how much the commands, after a start at rest, break each bound."""
    rest = np.repeat(commands[:1], 3, axis=0)
    x = np.concatenate([rest, commands])
    over = {"position": max(0.0, float((x - bounds.upper).max()), float((bounds.lower - x).max()))}
    for order, name in enumerate(("velocity", "acceleration", "jerk"), start=1):
        over[name] = max(0.0, float(np.abs(np.diff(x, order, axis=0)).max()) - getattr(bounds, name))
    return over


sizes = st.floats(0.01, 50.0)
commands = st.lists(
    st.one_of(
        st.floats(-200.0, 200.0),
        st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -1e300, 0.0, 1e-300]),
    ),
    min_size=1,
    max_size=60,
)


@given(
    lower=st.floats(-100.0, -0.5),
    upper=st.floats(0.5, 100.0),
    velocity=sizes,
    acceleration=st.one_of(st.just(math.inf), sizes),
    jerk=st.one_of(st.just(math.inf), sizes),
    start=st.floats(-150.0, 150.0),
    targets=commands,
    repeat=st.integers(1, 12),
)
@settings(max_examples=300, deadline=None)
def test_no_bound_is_broken_by_any_input(lower, upper, velocity, acceleration, jerk, start, targets, repeat):
    if math.isinf(acceleration):
        jerk = math.inf
    bounds = FrameBounds(lower, upper, velocity, acceleration, jerk)
    profile = JointProfile(bounds, start)
    sent = [profile.position] + [profile.advance(t) for t in targets for _ in range(repeat)]
    assert np.isfinite(sent).all()
    over = differences(np.array(sent), bounds)
    assert over == pytest.approx(dict.fromkeys(over, 0.0), abs=1e-9)


@given(change=st.floats(-1e3, 1e3), jerk=st.floats(1e-2, 1e2))
@settings(deadline=None)
def test_the_acceleration_for_a_change_of_speed_changes_it_by_that(change, jerk):
    y = acceleration_for(change, jerk)
    total, step = 0.0, y
    while step != 0.0:  # released by at most `jerk` a frame
        total += step
        step = math.copysign(max(0.0, abs(step) - jerk), step)
    assert total == pytest.approx(change, rel=1e-6, abs=1e-9)


def test_a_command_that_keeps_all_bounds_passes_unchanged():
    bounds = FrameBounds(-100, 100, 120 / FPS, 600 / FPS**2, 6000 / FPS**3)
    profile = JointProfile(bounds, 0.0)
    wave = [30 * (1 - math.cos(k / FPS)) for k in range(200)]
    assert [profile.advance(x) for x in wave] == wave


@pytest.mark.parametrize("target", [50.0, -80.0, 0.3])
def test_a_step_is_approached_without_overshoot_and_reached(target):
    bounds = FrameBounds(-100, 100, 120 / FPS, 600 / FPS**2, 6000 / FPS**3)
    profile = JointProfile(bounds, 0.0)
    sent = np.array([profile.advance(target) for _ in range(90)])
    assert sent[-1] == pytest.approx(target, abs=1e-9)
    assert (np.abs(sent) <= abs(target) + 1e-9).all()
    assert (np.diff(np.abs(sent)) >= -1e-9).all()


def test_full_speed_into_a_stop_ends_at_the_stop():
    bounds = FrameBounds(-10, 40, 4.0, 0.5, 0.1)
    profile = JointProfile(bounds, -10.0)
    sent = [profile.advance(1e9) for _ in range(60)]
    assert max(sent) <= 40.0
    assert sent[-1] == pytest.approx(40.0, abs=1e-9)


def run(step, values, observation=None):
    return step(create_transition(action=values, observation=observation))["action"]


def test_an_episode_starts_from_the_measured_position():
    step = MotionLimitsStep(velocity=30.0, fps=30.0)
    assert run(step, {"pan.pos": 50.0}, {"pan.pos": 10.0}) == {"pan.pos": 11.0}
    assert run(step, {"pan.pos": 50.0}, {"pan.pos": -90.0}) == {"pan.pos": 12.0}
    step.reset()
    assert run(step, {"pan.pos": 50.0}, {"pan.pos": -90.0}) == {"pan.pos": -89.0}


def test_a_nan_brings_the_joint_to_rest_and_the_others_go_on():
    step = MotionLimitsStep(velocity=60.0, acceleration=300.0)
    now = {"pan.pos": 0.0, "lift.pos": 0.0}
    for _ in range(10):
        out = run(step, {"pan.pos": 90.0, "lift.pos": 90.0}, now)
    for _ in range(30):
        out = run(step, {"pan.pos": math.nan, "lift.pos": 90.0}, now)
    assert out["lift.pos"] > out["pan.pos"]
    assert run(step, {"pan.pos": math.nan, "lift.pos": 90.0}, now)["pan.pos"] == pytest.approx(out["pan.pos"])


def test_a_nan_is_refused_where_asked_for():
    step = MotionLimitsStep(velocity=60.0, invalid="raise")
    with pytest.raises(ValueError, match=r"`lift` is not finite"):
        run(step, {"pan.pos": 0.0, "lift.pos": math.inf})


def test_a_first_nan_without_a_measured_position_is_refused():
    with pytest.raises(ValueError, match="no position to hold"):
        run(MotionLimitsStep(velocity=60.0), {"pan.pos": math.nan})


def test_a_chunk_is_limited_like_its_frames_one_by_one():
    chunk = torch.randn(3, 20, 6, dtype=torch.float64) * 50
    whole = MotionLimitsStep(**{**LIMITS, "position": None})
    single = MotionLimitsStep(**{**LIMITS, "position": None})
    frames = [run(single, chunk[:, t]) for t in range(20)]
    assert torch.equal(run(whole, chunk), torch.stack(frames, dim=1))


def test_bounds_by_joint_find_a_tensors_columns_by_name():
    step = MotionLimitsStep(velocity={"b": 30.0}, joint_names=["a", "b"])
    run(step, torch.zeros(1, 2))
    assert run(step, torch.tensor([[5.0, 5.0]])).tolist() == [[5.0, 1.0]]


def test_a_loop_faster_than_fps_does_not_make_the_arm_faster():
    step = MotionLimitsStep(velocity=30.0, fps=30.0, measure_time=True)
    now = [0.0]
    step._pace.clock = lambda: now[0]
    sent = []
    for _ in range(100):
        sent.append(run(step, {"pan.pos": 90.0}, {"pan.pos": 0.0})["pan.pos"])
        now[0] += 0.01
    assert sent[-1] == pytest.approx(30.0, abs=1.5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"velocity": -1.0}, r"`velocity` is -1.0"),
        ({"velocity": {"pan": math.nan}}, r"`velocity\['pan'\]`"),
        ({"acceleration": 5.0}, r"needs a `velocity`"),
        ({"velocity": 5.0, "jerk": 5.0}, r"needs a `acceleration`"),
        ({"velocity": 100.0, "acceleration": 1.0}, r"100 s to stop"),
        ({"position": {"pan": [3.0, 3.0]}}, r"lowest must be below"),
        ({"position": {"pan": 3.0}}, r"give \[lowest, highest\]"),
        ({"fps": 0.0}, r"`fps`"),
        ({"invalid": "ignore"}, r"'hold', 'raise'"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(wrong, words):
    with pytest.raises(ValueError, match=words):
        MotionLimitsStep(**wrong)


def test_a_joint_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"`elbow\.pos`.*pan"):
        run(MotionLimitsStep(velocity={"elbow": 3.0}), {"pan.pos": 0.0})


def test_another_batch_without_a_reset_is_refused():
    step = MotionLimitsStep(velocity=1.0)
    run(step, torch.zeros(2, 6))
    with pytest.raises(ValueError, match=r"3 rows and had 2"):
        run(step, torch.zeros(3, 6))


def test_all_joints_of_a_koch_go_through():
    out = MotionLimitsStep(**LIMITS)(robot_transition())["action"]
    assert list(out) == [f"{name}.pos" for name in JOINTS]
