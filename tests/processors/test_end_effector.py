# SPDX-License-Identifier: Apache-2.0
"""Joints to end-effector poses and back: against MuJoCo, there and back, out of reach, along paths."""

import math
import random

import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.configs.types import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.processor.converters import create_transition
from lerobot.utils.rotation import Rotation
from lerobot_env_koch.physics import MODEL_PATH
from lerobot_env_koch.units import rad_to_units
from lerobot_robot_processors.kinematics.arms import ArmSettings
from lerobot_robot_processors.kinematics.koch import KochArm
from lerobot_robot_processors.kinematics.pose import (
    Pose,
    angle_between,
    distance_m,
    matrix_from_columns,
    matrix_from_rotvec,
    rotvec_from_matrix,
)
from lerobot_robot_processors.steps.end_effector import EndEffectorToJointsStep, JointsToEndEffectorStep

from lerobot_ext.arms import koch
from lerobot_ext.testing import ProcessorStepContract
from lerobot_ext.testing.contracts.step_data import robot_transition

ARM = KochArm()
JOINTS = koch.JOINT_NAMES
EE = ("ee.x", "ee.y", "ee.z", "ee.wx", "ee.wy", "ee.wz", "ee.gripper_pos")


def random_joints(rng, margin=0.0):
    return [rng.uniform(a + margin, b - margin) for a, b in zip(ARM.lower, ARM.upper, strict=True)]


def clamped(q):
    return [min(max(a, low), high) for a, low, high in zip(q, ARM.lower, ARM.upper, strict=True)]


def error(pose, q):
    got = ARM.forward(q)
    return distance_m(pose.position, got.position), math.degrees(angle_between(pose.rotation, got.rotation))


def in_reach():
    """A robot's transition whose joints are all within the Koch's stops."""
    transition = robot_transition()
    for part in ("action", "observation"):
        transition[part] = {**transition[part], "shoulder_pan.pos": 30.0, "gripper.pos": 40.0}
    return transition


def in_poses():
    transition = in_reach()
    return JointsToEndEffectorStep(convert="action")(transition)


class TestForwardContract(ProcessorStepContract):
    def make_step(self):
        return JointsToEndEffectorStep(convert="action", rotation="6d")

    def make_transition(self):
        return in_reach()

    def make_inverse(self, step):
        return EndEffectorToJointsStep(rotation="6d", max_step_deg=None, keep_branch=False)


class TestForwardContractOnBoth(ProcessorStepContract):
    def make_step(self):
        return JointsToEndEffectorStep()

    def make_transition(self):
        return in_reach()


class TestInverseContract(ProcessorStepContract):
    def make_step(self):
        return EndEffectorToJointsStep(max_step_deg=None, keep_branch=False)

    def make_transition(self):
        return in_poses()

    def make_inverse(self, step):
        return JointsToEndEffectorStep(convert="action")


def test_the_pose_is_that_of_the_simulated_arm():
    model = mujoco.MjModel.from_xml_path(str(MODEL_PATH))
    data = mujoco.MjData(model)
    rng = random.Random(0)
    for _ in range(500):
        q = random_joints(rng)
        data.qpos[:5] = q
        mujoco.mj_kinematics(model, data)
        pose = ARM.forward(q)
        np.testing.assert_allclose(pose.position, data.site("tip").xpos, atol=1e-12)
        np.testing.assert_allclose(pose.rotation, data.site("tip").xmat, atol=1e-12)


def test_the_stops_are_those_of_the_simulated_arm():
    model = mujoco.MjModel.from_xml_path(str(MODEL_PATH))
    for name, low, high in zip(ARM.joint_names, ARM.lower, ARM.upper, strict=True):
        assert model.joint(name).range.tolist() == pytest.approx([low, high])


def test_motor_values_are_those_of_the_canonical_calibration():
    motors = ArmSettings().make_motors()
    rng = random.Random(1)
    for _ in range(50):
        q = random_joints(rng)
        assert motors.to_motors(q) == pytest.approx(rad_to_units([*q, 0.0])[:5].tolist())
        assert motors.to_rad(motors.to_motors(q)) == pytest.approx(q)


@pytest.mark.parametrize("start", ["true", "near", "home"])
def test_10000_random_poses_in_reach_come_back_exactly(start):
    rng = random.Random(2)
    worst_m = worst_deg = 0.0
    for _ in range(10_000):
        q = random_joints(rng)
        pose = ARM.forward(q)
        near = [a + rng.uniform(-0.2, 0.2) for a in q]
        begin = {"true": q, "near": clamped(near), "home": [0.0] * 5}[start]
        found = ARM.inverse(pose, begin, keep_branch=start != "home")
        off_m, off_deg = error(pose, found)
        worst_m, worst_deg = max(worst_m, off_m), max(worst_deg, off_deg)
        assert all(lo <= a <= hi for a, lo, hi in zip(found, ARM.lower, ARM.upper, strict=True))
    assert worst_m <= 1e-6  # asked for: 1 mm
    assert worst_deg <= 1e-3  # asked for: 0.5°


def test_the_steps_bring_10000_random_commands_back():
    rng = random.Random(3)
    motors = ArmSettings().make_motors()
    rows = torch.tensor(
        [[*motors.to_motors(random_joints(rng, 1e-6)), rng.uniform(0, 100)] for _ in range(10_000)],
        dtype=torch.float64,
    )
    to_poses = JointsToEndEffectorStep(convert="action")
    poses = to_poses(create_transition(action=rows))["action"]
    assert poses.shape == (10_000, 7)
    back = EndEffectorToJointsStep()(create_transition(action=poses))["action"]
    again = to_poses(create_transition(action=back))["action"]
    torch.testing.assert_close(again[:, :3], poses[:, :3], atol=1e-6, rtol=0)
    apart = [
        angle_between(matrix_from_rotvec(tuple(a)), matrix_from_rotvec(tuple(b)))
        for a, b in zip(poses[:, 3:6].tolist(), again[:, 3:6].tolist(), strict=True)
    ]
    assert math.degrees(max(apart)) < 1e-3
    assert torch.equal(again[:, 6], poses[:, 6])


def path(seed, frames=600):
    """Joints wandering smoothly within the stops, front side, elbow up or down as it comes."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / 30.0
    mid, half = np.add(ARM.lower, ARM.upper) / 2, np.subtract(ARM.upper, ARM.lower) / 2
    phases, speeds = rng.uniform(0, 6.28, 5), rng.uniform(0.2, 0.9, 5)
    return mid + 0.9 * half * np.sin(phases + t[:, None] * speeds)


@pytest.mark.parametrize("seed", range(8))
def test_along_a_path_the_joints_follow_without_a_flip(seed):
    joints = path(seed)
    q = joints[0].tolist()
    for wanted in joints:
        pose = ARM.forward(wanted.tolist())
        q = ARM.inverse(pose, q)
        off_m, off_deg = error(pose, q)
        assert off_m < 1e-3
        assert off_deg < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_along_a_path_in_and_out_of_reach_no_joint_jumps(seed):
    rng = np.random.default_rng(seed)
    a, b, c = rng.uniform(0.3, 1.0, 3)
    q, steps = [0.0, 0.0, 0.0, 0.5, 0.0], []
    for k in range(1500):
        t = k / 120.0
        # In front of the arm: the pan's own singularity above the base is another matter.
        place = (0.15 * math.sin(a * t), 0.26 + 0.16 * math.cos(b * t), 0.12 + 0.2 * math.sin(c * t))
        turned = matrix_from_rotvec((-1.2 + 0.4 * math.sin(t), 0.3 * math.cos(t), 0.0))
        before, q = q, ARM.inverse(Pose(place, turned), q)
        steps.append(max(abs(x - y) for x, y in zip(q, before, strict=True)))
    # Up to 3 mm a frame; where the arm comes to be stretched out its elbow turns by the root of that.
    assert max(steps[5:]) < 0.25


def test_a_position_out_of_reach_is_approached_as_near_as_the_arm_can():
    rng = random.Random(4)
    for _ in range(40):
        place = (rng.uniform(-0.2, 0.2), rng.uniform(0.30, 0.5), rng.uniform(0.0, 0.3))
        wanted = Pose(place, matrix_from_rotvec((rng.uniform(-1.5, 0.0), 0.0, 0.0)))
        q = ARM.inverse(wanted, [0.0, 0.3, 0.3, 0.3, 0.0])
        found = distance_m(place, ARM.forward(q).position)
        for _ in range(300):  # no small turn brings it nearer by more than the pitch is worth
            other = clamped([a + rng.gauss(0, 0.1) for a in q])
            assert distance_m(place, ARM.forward(other).position) > found - 0.002


def run(step, action, observation=None):
    return step(create_transition(action=action, observation=observation))["action"]


HOME = {f"{name}.pos": 20.0 for name in JOINTS}


def pose_of(joints=None):
    return run(JointsToEndEffectorStep(convert="action"), joints or HOME)


def test_a_robots_motors_become_lerobots_names_and_the_rest_stays():
    out = pose_of({"speed": 1.0, **HOME, "task": "x"})
    assert list(out) == ["speed", *EE, "task"]
    assert out["ee.gripper_pos"] == 20.0


def test_the_rotation_vector_is_lerobots():
    out = pose_of()
    q = ArmSettings().make_motors().to_rad([20.0] * 5)
    matrix = np.array(ARM.forward(q).rotation).reshape(3, 3)
    assert [out[k] for k in EE[3:6]] == pytest.approx(Rotation.from_matrix(matrix).as_rotvec().tolist())


def test_a_jump_of_the_pose_is_walked():
    step = EndEffectorToJointsStep(max_step_deg=5.0)
    target = pose_of({**HOME, "shoulder_pan.pos": 60.0})
    walked = [run(step, target, HOME)["shoulder_pan.pos"] for _ in range(20)]
    assert walked[0] == pytest.approx(20.0 + 5.0 / 1.8)
    assert walked[-1] == pytest.approx(60.0)


def far():
    return {**pose_of(), "ee.y": 0.9}


def test_out_of_reach_can_be_held_or_refused():
    step = EndEffectorToJointsStep(unreachable="hold")
    last = run(step, pose_of(), HOME)
    assert run(step, far()) == last
    with pytest.raises(ValueError, match=r"misses the pose at .* m by \d+\.\d mm"):
        run(EndEffectorToJointsStep(unreachable="raise"), far(), HOME)


def test_a_pose_that_is_not_finite_is_held_or_refused():
    step = EndEffectorToJointsStep()
    last = run(step, pose_of(), HOME)
    assert run(step, {**pose_of(), "ee.wy": math.nan}) == last
    with pytest.raises(ValueError, match=r"not finite.*ee\.wy nan"):
        run(EndEffectorToJointsStep(invalid="raise"), {**pose_of(), "ee.wy": math.nan}, HOME)
    with pytest.raises(ValueError, match="first pose"):
        run(EndEffectorToJointsStep(), {**pose_of(), "ee.wy": math.nan})


def test_missing_parts_of_a_pose_are_named():
    pose = pose_of()
    del pose["ee.wz"]
    with pytest.raises(KeyError, match=r"`ee\.wz`"):
        run(EndEffectorToJointsStep(), pose)


@pytest.mark.parametrize(("rotation", "width"), [("rotvec", 7), ("6d", 10)])
def test_a_policys_state_and_action_become_poses(rotation, width):
    step = JointsToEndEffectorStep(rotation=rotation)
    transition = create_transition(
        observation={"observation.state": torch.full((2, 3, 6), 10.0)}, action=torch.full((2, 8, 6), 10.0)
    )
    out = step(transition)
    assert out["observation"]["observation.state"].shape == (2, 3, width)
    assert out["action"].shape == (2, 8, width)
    features = {
        PipelineFeatureType.OBSERVATION: {"observation.state": PolicyFeature(FeatureType.STATE, (6,))},
        PipelineFeatureType.ACTION: {"action": PolicyFeature(FeatureType.ACTION, (6,))},
    }
    after = step.transform_features(features)
    assert after[PipelineFeatureType.OBSERVATION]["observation.state"].shape == (width,)
    assert after[PipelineFeatureType.ACTION]["action"].shape == (width,)


def test_a_state_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"6 motors shoulder_pan"):
        JointsToEndEffectorStep()(create_transition(observation={"observation.state": torch.zeros(2, 9)}))


def test_a_suffix_makes_names_that_rollout_passes_on():
    out = run(JointsToEndEffectorStep(convert="action", suffix=".pos"), HOME)
    assert next(iter(out)) == "ee.x.pos"
    assert list(out)[-1] == "ee.gripper.pos"


rotvecs = st.tuples(*[st.floats(-1.8, 1.8)] * 3).map(lambda v: tuple(float(x) for x in v))


@given(rotvecs)
@settings(deadline=None)
def test_both_ways_to_write_an_orientation_come_back(rotvec):
    m = matrix_from_rotvec(rotvec)
    assert angle_between(m, matrix_from_columns((m[0], m[3], m[6]), (m[1], m[4], m[7]))) < 1e-7
    if math.hypot(*rotvec) < math.pi - 1e-3:
        assert rotvec_from_matrix(m) == pytest.approx(rotvec, abs=1e-9)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0.8, 0.0)])
@pytest.mark.parametrize("angle", [0.0, 1e-9, 1.0, math.pi - 1e-9, math.pi])
def test_a_rotation_vector_is_right_at_every_angle(axis, angle):
    m = matrix_from_rotvec(tuple(angle * a for a in axis))
    assert angle_between(m, matrix_from_rotvec(rotvec_from_matrix(m))) < 1e-7


def model_settings():
    return {
        "model": str(MODEL_PATH),
        "frame": "tip",
        "arm_joints": list(JOINTS[:5]),
        "units": "degrees",
    }


def test_another_arm_comes_from_its_model_file():
    by_file = ArmSettings(**model_settings()).make_motors()
    rng = random.Random(5)
    for _ in range(200):
        q = random_joints(rng, 0.05)
        pose = by_file.forward(np.degrees(q).tolist())
        np.testing.assert_allclose(pose.position, ARM.forward(q).position, atol=1e-12)
        start = [a + rng.uniform(-0.15, 0.15) for a in q]
        off_m, off_deg = error(pose, by_file.arm.inverse(pose, start))
        assert off_m < 1e-3
        assert off_deg < 0.5


class TestForwardContractOfAModelFile(ProcessorStepContract):
    def make_step(self):
        return JointsToEndEffectorStep(**model_settings(), convert="action")

    def make_transition(self):
        return in_reach()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"units": "radians"}, "'normalized', 'degrees'"),
        ({"rotation": "euler"}, "'rotvec', '6d'"),
        ({"ranges_deg": {"elbow": [0, 1]}}, "'elbow'.*elbow_flex"),
        ({"ranges_deg": {"elbow_flex": [1, 1]}}, "both ends"),
        ({"frame": "tip"}, "belong to a `model` file"),
        ({"model": "/nowhere.urdf", "frame": "x", "arm_joints": ["a"]}, "nowhere"),
        ({"model": "arm.urdf"}, "give `frame` and `arm_joints`"),
        ({**model_settings(), "frame": "thumb"}, "no site or body 'thumb'"),
        ({**model_settings(), "arm_joints": ["knee"]}, "no hinge joint 'knee'"),
        ({**model_settings(), "units": "normalized"}, "`ranges_deg` lacks shoulder_pan"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(wrong, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        JointsToEndEffectorStep(**wrong)
