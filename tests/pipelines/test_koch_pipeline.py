# SPDX-License-Identifier: Apache-2.0
"""`--robot.pipeline` and `--teleop.pipeline` of the Koch arm, without a bus."""

import draccus
import pytest
from lerobot.robots import RobotConfig
from lerobot_robot_koch import (
    RobustKochFollower,
    RobustKochFollowerConfig,
    RobustKochLeader,
    RobustKochLeaderConfig,
)
from step_files import step, write

from lerobot_ext.pipelines.file import PipelineError


def test_without_a_file_nothing_changes():
    robot = RobustKochFollower(RobustKochFollowerConfig(port="/dev/none"))
    assert robot.pipelines is None
    assert list(robot.action_features) == list(robot.observation_features)
    assert len(robot.action_features) == 6


def test_the_file_is_read_before_a_port_is_opened(tmp_path):
    path = write(tmp_path / "p.json", robot_action=[step("Fail", hw="x")])
    with pytest.raises(PipelineError, match="did you mean 'how'"):
        RobustKochFollower(RobustKochFollowerConfig(port="/dev/none", pipeline=str(path)))
    write(path, robot_action=[step("Scale")])
    with pytest.raises(PipelineError, match="no steps under `teleop_action`"):
        RobustKochLeader(RobustKochLeaderConfig(port="/dev/none", pipeline=str(path)))


def test_only_what_the_steps_make_reaches_the_motors(tmp_path, monkeypatch):
    path = write(tmp_path / "p.json", robot_action=[step("Scale", scale=0.5)])
    robot = RobustKochFollower(RobustKochFollowerConfig(port="/dev/none", pipeline=str(path)))
    got = []
    monkeypatch.setattr(robot, "require_calibration", lambda: None)
    monkeypatch.setattr(robot, "_send", lambda action: got.append(action) or action)
    monkeypatch.setattr(robot, "_observe", lambda: dict.fromkeys(robot.action_features, 0.0))
    assert robot.send_action(dict.fromkeys(robot.action_features, 8.0)) == got[0]
    assert set(got[0].values()) == {4.0}


def test_both_arms_speak_of_the_hand_and_the_motors_get_joints(tmp_path, monkeypatch):
    there = {"suffix": ".pos"}
    path = write(
        tmp_path / "p.json",
        teleop_action=[step("lerobot_ext_joints_to_end_effector", convert="action", **there)],
        robot_action=[
            step("lerobot_ext_end_effector_to_joints", **there),
            step("lerobot_ext_motion_limits", velocity=300.0),
        ],
        robot_observation=[step("lerobot_ext_joints_to_end_effector", convert="observation", **there)],
    )
    robot = RobustKochFollower(RobustKochFollowerConfig(port="/dev/none", pipeline=str(path)))
    leader = RobustKochLeader(RobustKochLeaderConfig(port="/dev/none", pipeline=str(path)))
    assert list(robot.action_features) == list(leader.action_features) == list(robot.observation_features)
    assert "ee.x.pos" in robot.action_features
    now = dict.fromkeys((f"{name}.pos" for name in robot.bus.motors), 5.0)
    got = []
    monkeypatch.setattr(robot, "require_calibration", lambda: None)
    monkeypatch.setattr(robot, "_send", lambda action: got.append(action) or action)
    monkeypatch.setattr(robot, "_observe", lambda: dict(now))
    hand = leader.pipelines.act({name: value + 1 for name, value in now.items()})
    assert robot.send_action(hand) == hand
    assert got[0] == pytest.approx({name: value + 1 for name, value in now.items()}, abs=0.05)
    assert robot.get_observation().keys() == robot.observation_features.keys()


def test_the_field_survives_json():
    made = RobustKochFollowerConfig(port="/dev/none", pipeline="p.json")
    again = draccus.decode(RobotConfig, draccus.encode(made, RobotConfig))
    assert again.pipeline == "p.json"
