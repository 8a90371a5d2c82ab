# SPDX-License-Identifier: Apache-2.0
"""The workspace: no command leaves it, in poses and in joints; clamped, held or refused."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.processor.converters import create_transition
from lerobot_robot_processors.kinematics.arms import ArmSettings
from lerobot_robot_processors.motion.workspace import Workspace
from lerobot_robot_processors.steps.end_effector import JointsToEndEffectorStep
from lerobot_robot_processors.steps.workspace_bounds import WorkspaceBoundsStep

from lerobot_ext.arms.koch import JOINT_NAMES
from lerobot_ext.testing import ProcessorStepContract
from lerobot_ext.testing.contracts.step_data import robot_transition

BOUNDS = {"box": {"x": [-0.15, 0.15], "z": [None, 0.2]}, "radius": [0.06, 0.22], "floor": 0.02}
SPACE = Workspace(BOUNDS["box"], BOUNDS["radius"], [0.0, 0.0], BOUNDS["floor"])
MOTORS = ArmSettings().make_motors()


def joints_transition():
    transition = robot_transition()
    for part in ("action", "observation"):
        transition[part] = {**transition[part], "shoulder_pan.pos": 30.0}
    return transition


class TestContractOnPoses(ProcessorStepContract):
    def make_step(self):
        return WorkspaceBoundsStep(**BOUNDS)

    def make_transition(self):
        return JointsToEndEffectorStep(convert="action")(joints_transition())


class TestContractOnJoints(ProcessorStepContract):
    def make_step(self):
        return WorkspaceBoundsStep(space="joints", floor=0.05)

    def make_transition(self):
        return joints_transition()


def run(step, action, observation=None):
    return step(create_transition(action=action, observation=observation))["action"]


anywhere = st.floats(-1.0, 1.0)


@given(st.tuples(anywhere, anywhere, anywhere))
@settings(deadline=None)
def test_the_nearest_point_is_inside_and_an_inner_point_stays(point):
    near = SPACE.nearest(point)
    assert near is not None
    assert SPACE.contains(near)
    if SPACE.contains(point):
        assert near == point


def test_the_nearest_point_of_one_bound_is_the_nearest():
    box = Workspace({"x": [-0.1, 0.1], "y": [0.0, 0.3], "z": [0.0, 0.2]}, None, [0.0, 0.0], None)
    assert box.nearest((0.5, 0.1, -1.0)) == (0.1, 0.1, 0.0)
    ring = Workspace({}, [0.1, 0.2], [0.0, 0.0], None)
    assert ring.nearest((0.3, 0.4, 5.0)) == pytest.approx((0.12, 0.16, 5.0))
    assert ring.nearest((0.03, 0.04, 5.0)) == pytest.approx((0.06, 0.08, 5.0))
    assert ring.nearest((0.0, 0.0, 0.0)) == (0.0, 0.1, 0.0)


def pose(x, y, z):
    return {
        "ee.x": x,
        "ee.y": y,
        "ee.z": z,
        "ee.wx": -1.0,
        "ee.wy": 0.0,
        "ee.wz": 0.0,
        "ee.gripper_pos": 5.0,
    }


def test_a_pose_slides_along_the_bound_and_keeps_its_orientation():
    out = run(WorkspaceBoundsStep(floor=0.05), pose(0.1, 0.2, -0.3))
    assert out == pose(0.1, 0.2, 0.05)


def test_a_pose_outside_is_held_where_asked_for():
    step = WorkspaceBoundsStep(floor=0.05, outside="hold")
    run(step, pose(0.0, 0.2, 0.1))
    assert run(step, pose(0.1, 0.2, 0.0)) == pose(0.0, 0.2, 0.1)
    with pytest.raises(ValueError, match="none inside to hold"):
        run(WorkspaceBoundsStep(floor=0.05, outside="hold"), pose(0.1, 0.2, 0.0))


def test_a_pose_outside_is_refused_where_asked_for():
    with pytest.raises(ValueError, match=r"\(0.100, 0.200, 0.000\) m; keep to"):
        run(WorkspaceBoundsStep(floor=0.05, outside="raise"), pose(0.1, 0.2, 0.0))


@pytest.mark.parametrize("outside", ["clamp", "hold"])
def test_a_pose_that_is_not_finite_is_held(outside):
    step = WorkspaceBoundsStep(floor=0.05, outside=outside)
    run(step, pose(0.0, 0.2, 0.1))
    assert run(step, pose(math.nan, 0.2, 0.1)) == pose(0.0, 0.2, 0.1)


def random_motors(rng):
    arm = MOTORS.arm
    q = [rng.uniform(a, b) for a, b in zip(arm.lower, arm.upper, strict=True)]
    return [*MOTORS.to_motors(q), rng.uniform(0, 100)]


@pytest.mark.parametrize("outside", ["clamp", "hold"])
def test_no_command_in_joints_brings_the_tip_outside(outside):
    rng = random.Random(0)
    step = WorkspaceBoundsStep(space="joints", outside=outside, **BOUNDS)
    begin = next(
        m for m in iter(lambda: random_motors(rng), None) if SPACE.contains(MOTORS.forward(m[:5]).position)
    )
    run(step, dict(zip([f"{n}.pos" for n in JOINT_NAMES], begin, strict=True)))
    moved = 0
    for _ in range(500):
        wild = dict(zip([f"{n}.pos" for n in JOINT_NAMES], random_motors(rng), strict=True))
        out = run(step, wild)
        tip = MOTORS.forward([out[f"{n}.pos"] for n in JOINT_NAMES[:5]]).position
        assert SPACE.contains(tip)
        moved += out == wild
    assert 0 < moved < 500


def test_joints_near_the_floor_slide_along_it():
    step = WorkspaceBoundsStep(space="joints", floor=0.05)
    now = {f"{n}.pos": v for n, v in zip(JOINT_NAMES, [0, 0, 20, 20, 0, 0], strict=True)}
    low = {**now, "shoulder_lift.pos": 30.0}
    run(step, now)
    out = run(step, low)
    tip = MOTORS.forward([out[f"{n}.pos"] for n in JOINT_NAMES[:5]]).position
    wanted = MOTORS.forward([low[f"{n}.pos"] for n in JOINT_NAMES[:5]]).position
    assert wanted[2] < 0.05
    assert tip == pytest.approx((wanted[0], wanted[1], 0.05), abs=2e-3)


def test_a_batch_of_poses_is_bounded_row_by_row():
    rows = torch.tensor([[0.0, 0.2, -1.0, 0, 0, 0, 1], [0.0, 0.2, 0.1, 0, 0, 0, 1]])
    out = run(WorkspaceBoundsStep(floor=0.05), rows)
    torch.testing.assert_close(out[:, 2], torch.tensor([0.05, 0.1]))
    assert torch.equal(out[1], rows[1])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "no bound"),
        ({"box": {"w": [0, 1]}}, "axis 'w'"),
        ({"box": {"x": [1, 0]}}, "lowest must not be above"),
        ({"box": {"x": [0]}}, r"give \[lowest, highest\]"),
        ({"radius": [-1, 1]}, "smallest must be 0"),
        ({"radius": [None, 1]}, "`radius`"),
        ({"floor": math.nan}, "`floor`"),
        ({"floor": 0.3, "box": {"z": [None, 0.2]}}, "Nothing is inside"),
        ({"radius": [0.0, 0.1], "box": {"x": [0.2, 0.3]}}, "Nothing is inside"),
        ({"floor": 0.0, "space": "tcp"}, "'pose', 'joints'"),
        ({"floor": 0.0, "outside": "stop"}, "'clamp', 'hold', 'raise'"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(wrong, words):
    with pytest.raises(ValueError, match=words):
        WorkspaceBoundsStep(**wrong)
