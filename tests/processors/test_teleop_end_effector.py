# SPDX-License-Identifier: Apache-2.0
"""Gamepad, phone and leader displacement: target, clutch, leash, gripper, and through to the joints."""

import math

import numpy as np
import pytest
from lerobot.configs.types import PipelineFeatureType
from lerobot.processor.converters import create_transition
from lerobot.teleoperators.gamepad import GamepadTeleop, GamepadTeleopConfig
from lerobot.utils.rotation import Rotation
from lerobot_robot_processors.kinematics.arms import ArmSettings
from lerobot_robot_processors.kinematics.pose import angle_between, matrix_from_rotvec
from lerobot_robot_processors.motion.teleop_axes import AxisMap
from lerobot_robot_processors.steps.end_effector import EndEffectorToJointsStep, JointsToEndEffectorStep
from lerobot_robot_processors.steps.leader_displacement import LeaderDisplacementStep
from lerobot_robot_processors.steps.teleop_end_effector import (
    GamepadToEndEffectorStep,
    PhoneToEndEffectorStep,
)

from lerobot_ext.arms.koch import JOINT_NAMES
from lerobot_ext.testing import ProcessorStepContract
from lerobot_ext.testing.contracts.step_data import robot_transition

MOTORS = ArmSettings().make_motors()
# Hand in front of the base, pointing half down.
HOME = dict(zip([f"{n}.pos" for n in JOINT_NAMES], [0.0, -20.0, 30.0, 20.0, 0.0, 40.0], strict=True))
EE = ("ee.x", "ee.y", "ee.z", "ee.wx", "ee.wy", "ee.wz", "ee.gripper_pos")


def home_pose():
    return JointsToEndEffectorStep(convert="action")(create_transition(action=HOME))["action"]


def run(step, action, observation=HOME):
    return step(create_transition(action=action, observation=observation))["action"]


class TestGamepadContract(ProcessorStepContract):
    def make_step(self):
        return GamepadToEndEffectorStep()

    def make_transition(self):
        return {**robot_transition(), "action": gamepad(0.5, 0.0, 1.0, 2.0)}


class TestPhoneContract(ProcessorStepContract):
    """With a phone that sees nothing: it says nothing then. Its poses cannot be compared by `==`."""

    def make_step(self):
        return PhoneToEndEffectorStep(rotation="6d")

    def make_transition(self):
        return {**robot_transition(), "action": {}}


class TestLeaderContract(ProcessorStepContract):
    def make_step(self):
        return LeaderDisplacementStep(scale=0.5)

    def make_transition(self):
        return robot_transition()


def gamepad(x, y, z, gripper=1.0):
    return {"delta_x": x, "delta_y": y, "delta_z": z, "gripper": gripper}


def test_a_gamepad_at_rest_keeps_the_pose():
    step = GamepadToEndEffectorStep()
    for _ in range(3):
        assert run(step, gamepad(0.0, 0.02, -0.03)) == pytest.approx(home_pose())


def test_forward_left_and_up_are_the_kochs():
    step = GamepadToEndEffectorStep(step_m=0.01, turn_with_arm=False)
    out, home = run(step, gamepad(1.0, 0.5, -1.0)), home_pose()
    assert [out[k] - home[k] for k in EE[:3]] == pytest.approx([-0.005, 0.01, -0.01])
    assert [out[k] for k in EE[3:6]] == pytest.approx([home[k] for k in EE[3:6]])


def test_the_hand_turns_with_the_arm_so_that_the_pose_can_be_had():
    step, inverse = GamepadToEndEffectorStep(leash_m=None), EndEffectorToJointsStep(tolerance_deg=0.01)
    inverse.unreachable = "raise"
    for _ in range(40):
        run(inverse, run(step, gamepad(0.0, 1.0, 0.0)))


def test_the_joints_go_where_the_gamepad_says():
    """An arm that follows at once, 30 frames to the left and up."""
    step, inverse, now = GamepadToEndEffectorStep(), EndEffectorToJointsStep(), dict(HOME)
    for _ in range(30):
        now = run(inverse, run(step, gamepad(0.0, 0.5, 0.25), now), now)
    tip = MOTORS.forward([now[f"{n}.pos"] for n in JOINT_NAMES[:5]]).position
    home = home_pose()
    assert tip == pytest.approx((home["ee.x"] - 0.06, home["ee.y"], home["ee.z"] + 0.03), abs=1e-6)


def test_the_gripper_closes_opens_and_stops_at_its_ends():
    step = GamepadToEndEffectorStep(gripper_step=25.0)
    moved = [run(step, gamepad(0, 0, 0, g))["ee.gripper_pos"] for g in (2, 2, 2, 1, 0, 0)]
    assert moved == [65.0, 90.0, 100.0, 100.0, 75.0, 50.0]


def test_a_target_does_not_run_away_from_an_arm_that_is_held_up():
    step = GamepadToEndEffectorStep(leash_m=0.03, turn_with_arm=False)
    for _ in range(50):
        out = run(step, gamepad(1.0, 0.0, 0.0))
    assert out["ee.y"] - home_pose()["ee.y"] == pytest.approx(0.03)


def test_a_new_episode_starts_where_the_arm_is():
    step = GamepadToEndEffectorStep()
    run(step, gamepad(1.0, 0.0, 0.0))
    step.reset()
    assert run(step, gamepad(0.0, 0.0, 0.0)) == pytest.approx(home_pose())


def test_lerobots_gamepad_says_what_the_step_takes():
    said = GamepadTeleop(GamepadTeleopConfig()).action_features
    step = GamepadToEndEffectorStep()
    assert set(said["names"]) == {"delta_x", "delta_y", "delta_z", "gripper"}
    # LeRobot's gamepad describes a tensor; the features of a recording are those of the pose alone.
    after = step.transform_features({PipelineFeatureType.ACTION: said, PipelineFeatureType.OBSERVATION: {}})
    assert after[PipelineFeatureType.ACTION] == dict.fromkeys(EE, float)


def phone(pos, rotvec=(0.0, 0.0, 0.0), enabled=True, **inputs):
    return {
        "phone.pos": np.array(pos),
        "phone.rot": Rotation.from_rotvec(np.array(rotvec)),
        "phone.enabled": enabled,
        "phone.raw_inputs": inputs,
    }


def test_the_phone_moves_the_target_only_while_its_button_is_held():
    step, home = PhoneToEndEffectorStep(scale=0.5, leash_m=None), home_pose()
    assert run(step, phone((1.0, 1.0, 1.0), enabled=False)) == pytest.approx(home)
    assert run(step, phone((1.0, 1.0, 1.0))) == pytest.approx(home)  # pressed: nothing jumps
    out = run(step, phone((1.02, 0.96, 1.06)))
    assert [out[k] - home[k] for k in EE[:3]] == pytest.approx([-0.01, 0.02, 0.03])
    released = run(step, phone((5.0, 5.0, 5.0), enabled=False))
    assert released == pytest.approx(out)
    assert run(step, phone((5.0, 5.0, 5.0))) == pytest.approx(out)  # pressed again, elsewhere
    assert run(step, phone((5.0, 4.96, 5.0)))["ee.y"] == pytest.approx(out["ee.y"] + 0.02)


def test_a_phone_without_a_pose_holds_the_target_and_releases_the_clutch():
    step = PhoneToEndEffectorStep(leash_m=None)
    run(step, phone((0.0, 0.0, 0.0)))
    moved = run(step, phone((0.0, -0.1, 0.0)))
    assert run(step, {}) == pytest.approx(moved)
    assert run(step, phone((9.0, 9.0, 9.0))) == pytest.approx(moved)


def test_the_hand_turns_in_the_frame_of_the_base():
    step, home = PhoneToEndEffectorStep(), home_pose()
    run(step, phone((0, 0, 0)))
    out = run(step, phone((0, 0, 0), (0.0, 0.0, 0.4)))
    before = matrix_from_rotvec(tuple(home[k] for k in EE[3:6]))
    after = matrix_from_rotvec(tuple(out[k] for k in EE[3:6]))
    assert angle_between(before, after) == pytest.approx(0.4)
    hand = [np.array(m).reshape(3, 3)[:2, 1] for m in (before, after)]
    turned = math.atan2(hand[1][1], hand[1][0]) - math.atan2(hand[0][1], hand[0][0])
    assert turned == pytest.approx(0.4)  # about the upright axis, as the phone


def test_turns_can_be_left_out():
    step = PhoneToEndEffectorStep(turn_scale=0.0)
    run(step, phone((0, 0, 0)))
    assert run(step, phone((0, 0, 0), (0.5, 0.2, 0.4))) == pytest.approx(home_pose())


def test_both_phones_move_the_gripper():
    step = PhoneToEndEffectorStep(gripper_step=10.0)
    assert run(step, phone((0, 0, 0), a3=0.5))["ee.gripper_pos"] == 45.0
    assert run(step, phone((0, 0, 0), reservedButtonB=True))["ee.gripper_pos"] == 35.0
    assert run(step, phone((0, 0, 0), enabled=False, reservedButtonA=True))["ee.gripper_pos"] == 45.0


def test_positions_and_turns_agree_also_where_axes_are_mirrored():
    for axes in (["-x", "-y", "z"], ["y", "x", "z"], ["-y", "x", "z"], ["x", "y", "-z"]):
        axis_map = AxisMap(axes)
        turn, arm = np.array([0.3, -0.2, 0.5]), np.array([0.1, 0.4, -0.2])
        by = np.array(matrix_from_rotvec(tuple(turn))).reshape(3, 3) @ arm
        mapped = np.array(matrix_from_rotvec(axis_map.turned(turn))).reshape(3, 3) @ axis_map.moved(arm)
        np.testing.assert_allclose(mapped, axis_map.moved(by), atol=1e-12)


def test_a_leader_moves_the_follower_by_how_it_is_moved():
    step = LeaderDisplacementStep(scale={"shoulder_pan": 0.5})
    leader = dict.fromkeys(HOME, 90.0)
    start = run(step, leader)
    assert start == {**HOME, "gripper.pos": 90.0}
    out = run(step, {**leader, "shoulder_pan.pos": 80.0, "elbow_flex.pos": 100.0}, dict.fromkeys(HOME, 7.0))
    assert out == {**HOME, "gripper.pos": 90.0, "shoulder_pan.pos": -5.0, "elbow_flex.pos": 40.0}
    step.reset()
    assert run(step, dict.fromkeys(HOME, 1.0), HOME) == {**HOME, "gripper.pos": 1.0}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GamepadToEndEffectorStep(step_m=0.0), "`step_m`"),
        (lambda: GamepadToEndEffectorStep(axes=["x", "x", "z"]), "`axes`"),
        (lambda: GamepadToEndEffectorStep(axes=["x", "--y", "z"]), "`axes`"),
        (lambda: GamepadToEndEffectorStep(leash_m=0.0), "`leash_m`"),
        (lambda: GamepadToEndEffectorStep(gripper_range=[1.0, 0.0]), "`gripper_range`"),
        (lambda: PhoneToEndEffectorStep(scale=-1.0), "`scale`"),
        (lambda: LeaderDisplacementStep(scale=None), "`scale` is None"),
        (lambda: run(GamepadToEndEffectorStep(), {"delta_x": 0.0, "delta_y": 0.0}), "`delta_z`"),
        (lambda: run(GamepadToEndEffectorStep(), gamepad(math.nan, 0, 0)), "gamepad connected"),
        (lambda: run(GamepadToEndEffectorStep(), gamepad(0, 0, 0), None), "needs the robot's observation"),
        (lambda: run(GamepadToEndEffectorStep(), gamepad(0, 0, 0), {"a.pos": 0.0}), r"`shoulder_pan\.pos`"),
        (lambda: run(PhoneToEndEffectorStep(), {"phone.pos": np.zeros(3)}), r"`phone\.rot`"),
        (lambda: run(PhoneToEndEffectorStep(), phone((math.inf, 0, 0))), "no pose"),
        (lambda: run(LeaderDisplacementStep(), HOME, None), "needs the robot's observation"),
        (lambda: run(LeaderDisplacementStep(), {**HOME, "gripper.pos": math.nan}), "not all finite"),
    ],
)
def test_what_is_wrong_is_refused_with_its_name(make, words):
    with pytest.raises((ValueError, KeyError), match=words):
        make()
