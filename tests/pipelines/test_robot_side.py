# SPDX-License-Identifier: Apache-2.0
"""Robot-side pipelines from a file: how they are read, what they do to features, commands and episodes."""

import json
import math

import pytest
from step_files import step, write, write_hand
from toy_devices import JOINTS

from lerobot_ext.pipelines import episodes
from lerobot_ext.pipelines.device import RobotPipelines, TeleopPipelines
from lerobot_ext.pipelines.file import PipelineError
from lerobot_ext.pipelines.robot_side import RobotSide
from lerobot_ext.pipelines.running import StepError

RAW = {**JOINTS, "eye": (4, 6, 3)}
NOW = {"arm.pos": 10.0, "claw.pos": 20.0}


def pipelines(path):
    return RobotPipelines(str(path), "toy", JOINTS, RAW)


def never():
    raise AssertionError("nothing is to be read")


def test_features_and_values_follow_the_steps(tmp_path):
    import numpy as np

    made = pipelines(write_hand(tmp_path / "p.json"))
    assert made.action_features == {"hand.x.pos": float, "hand.y.pos": float}
    assert made.observation_features == {**JOINTS, "eye": (2, 3, 3), "hand.x.pos": float}
    seen = made.observe({**NOW, "eye": np.zeros((4, 6, 3), np.uint8)})
    assert seen["hand.x.pos"] == 30.0
    assert seen["eye"].shape == (2, 3, 3)
    assert made.command({"hand.x.pos": 5.0, "hand.y.pos": 1.0}, never) == {"arm.pos": 3.0, "claw.pos": 2.0}


def test_a_leader_with_the_same_file_speaks_the_robots_space(tmp_path):
    path = write_hand(tmp_path / "p.json")
    robot, leader = pipelines(path), TeleopPipelines(str(path), JOINTS)
    assert leader.action_features == robot.action_features
    action = leader.act({"arm.pos": 3.0, "claw.pos": 2.0})
    assert robot.command(action, lambda: NOW) == {"arm.pos": 3.0, "claw.pos": 2.0}


def test_what_is_sent_is_told_in_the_space_of_the_action(tmp_path):
    same = pipelines(write(tmp_path / "same.json", robot_action=[step("Scale", scale=0.5)]))
    assert same.sent(NOW, {"arm.pos": 4.0, "claw.pos": 9.0}) == {"arm.pos": 4.0, "claw.pos": 9.0}
    other = pipelines(write_hand(tmp_path / "p.json"))
    action = {"hand.x.pos": 5.0, "hand.y.pos": 1.0}
    assert other.sent(action, {"arm.pos": 3.0, "claw.pos": 2.0}) == action


def test_an_observation_that_comes_back_as_an_action_is_understood(tmp_path):
    made = pipelines(write_hand(tmp_path / "p.json"))
    action = {**NOW, "hand.x.pos": 5.0, "hand.y.pos": 1.0}
    assert made.command(action, lambda: NOW) == {"arm.pos": 3.0, "claw.pos": 2.0}


def test_an_action_of_another_space_is_refused(tmp_path):
    made = pipelines(write_hand(tmp_path / "p.json"))
    with pytest.raises(StepError, match=r"--teleop.pipeline.*nothing was sent"):
        made.command(NOW, lambda: NOW)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raise", r"step 1 \(Fail\) failed: ZeroDivisionError: no way"),
        ("nan", "nan of arm.pos"),
        ("other", "ends with other.pos"),
    ],
)
def test_a_step_that_fails_sends_nothing_and_is_named(tmp_path, how, says):
    made = pipelines(write(tmp_path / "p.json", robot_action=[step("Scale"), step("Fail", how=how)]))
    with pytest.raises(StepError, match=says) as caught:
        made.command(NOW, lambda: NOW)
    assert "stays under its last command" in str(caught.value)


def test_an_infinite_action_is_no_command(tmp_path):
    made = pipelines(write(tmp_path / "p.json", robot_action=[step("Scale")]))
    with pytest.raises(StepError, match=r"inf of arm\.pos"):
        made.command({**NOW, "arm.pos": math.inf}, lambda: NOW)


def test_steps_that_do_not_lead_back_to_the_motors_are_refused(tmp_path):
    there = write(tmp_path / "there.json", teleop_action=[step("JointsToHand")])
    with pytest.raises(PipelineError, match="add `robot_action`, the way back"):
        pipelines(there)
    back = write(tmp_path / "back.json", robot_action=[step("JointsToHand")])
    with pytest.raises(PipelineError, match="add `teleop_action`"):
        pipelines(back)


def test_steps_forget_at_the_start_of_an_episode(tmp_path):
    made = pipelines(write(tmp_path / "p.json", robot_action=[step("Count")]))
    said = [made.command(NOW, lambda: NOW)["arm.pos"] for _ in range(3)]
    episodes.start()
    assert [*said, made.command(NOW, never)["arm.pos"]] == [10.0, 11.0, 12.0, 10.0]


def test_names_that_rollout_leaves_out_are_said(tmp_path, caplog):
    path = write(tmp_path / "p.json", robot_observation=[step("ObserveHand")])
    RobotPipelines(str(path), "toy", JOINTS, {**RAW, "force": float})
    assert "lerobot-rollout leaves out force" in caplog.text


def test_a_plain_file_is_what_its_steps_are(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"name": "mine", "steps": [step("Scale", scale=2.0)]}))
    assert [len(one.steps) for one in RobotSide.load(path).pipelines.values()] == [0, 1, 0]
    path.write_text(json.dumps({"name": "mine", "steps": [step("ObserveHand")]}))
    assert [len(one.steps) for one in RobotSide.load(path).pipelines.values()] == [0, 0, 1]
    path.write_text(json.dumps({"name": "teleop_action", "steps": [step("Scale")]}))
    assert [len(one.steps) for one in RobotSide.load(path).pipelines.values()] == [1, 0, 0]
    path.write_text(json.dumps({"name": "mine", "steps": [step("Scale"), step("ObserveHand")]}))
    with pytest.raises(PipelineError, match="put it under one of the names"):
        RobotSide.load(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "an object of pipelines is needed"),
        ("{}", "names no pipeline"),
        ('{"robot_acton": {"steps": []}}', "did you mean 'robot_action'"),
        ('{"robot_action": {"stops": []}}', "no list in field `steps`"),
        ('{"robot_action": {"steps": [3]}}', "step 0 is 3"),
        ('{"robot_action": {"steps": [{"registry_nam": "a"}]}}', "did you mean 'registry_name'"),
        ('{"robot_action": {"steps": [{"config": {}}]}}', "needs a text in `registry_name`"),
        ('{"robot_action": {"steps": [{"class": "Step"}]}}', "package.module.Class"),
        ('{"robot_action": {"steps": [{"class": "a.B", "config": 1}]}}', "an object is needed"),
        ('{"robot_action": {"steps": [{"class": "a.B", "state_file": "../x"}]}}', "a file beside this one"),
        (
            '{"robot_action": {"steps": [{"class": "no_such.Step"}]}}',
            "install the package that has 'no_such'",
        ),
        ('{"robot_action": {"steps": [{"class": "toy_steps.Nothing"}]}}', "cannot be imported"),
        (
            '{"robot_action": {"steps": [{"registry_name": "devce_processor"}]}}',
            "did you mean 'device_processor'",
        ),
        ('{"robot_action": {"steps": [{"registry_name": "zzz"}]}}', "install the package that has it"),
        (
            '{"robot_action": {"steps": [{"class": "toy_steps.Scale", "config": {"scal": 1}}]}}',
            "did you mean 'scale'",
        ),
        (
            '{"robot_action": {"steps": [{"class": "toy_steps.Scale", "state_file": "no"}]}}',
            "which is not there",
        ),
        ('{"robot_action": {"steps": [{"class": "pathlib.Path"}]}}', "no processor step"),
    ],
)
def test_a_wrong_file_is_refused_with_its_remedy(tmp_path, content, says):
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(PipelineError, match=says) as caught:
        pipelines(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PipelineError, match="is not there"):
        pipelines(tmp_path / "none.json")
