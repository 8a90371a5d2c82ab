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


def test_the_field_survives_json():
    made = RobustKochFollowerConfig(port="/dev/none", pipeline="p.json")
    again = draccus.decode(RobotConfig, draccus.encode(made, RobotConfig))
    assert again.pipeline == "p.json"
