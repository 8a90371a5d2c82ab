# SPDX-License-Identifier: Apache-2.0
"""The Koch tells where its time goes, so that a slow recording can say why."""

import time

import numpy as np
import pytest
from lerobot_robot_koch import RobustKochFollower, RobustKochFollowerConfig

from lerobot_ext.recording import watch
from lerobot_ext.recording.spent import SPENT


class SlowCamera:
    """Gives its picture after 50 ms."""

    is_connected = True

    def connect(self):
        pass

    def disconnect(self):
        pass

    def read_latest(self):
        time.sleep(0.05)
        return np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def robot(start_bench):
    bench = start_bench(calibrated=True)
    robot = RobustKochFollower(
        RobustKochFollowerConfig(port=bench.ready()["ports"]["follower"], id="sim_follower")
    )
    robot.cameras = {"top": SlowCamera()}
    robot.connect(calibrate=False)
    SPENT.take()
    yield robot
    robot.disconnect()


def test_cameras_and_bus_are_told_apart(robot):
    observation = robot.get_observation()
    spent = SPENT.take()
    assert spent["cameras"] >= 0.05
    assert spent["bus"] > 0
    robot.send_action({key: value for key, value in observation.items() if key.endswith(".pos")})
    assert set(SPENT.take()) == {"bus"}


def test_without_a_recording_nothing_is_said(robot, caplog):
    """As in lerobot-teleoperate, however slow: at which rate it should run, nobody told the robot."""
    for _ in range(5):
        robot.get_observation()
    assert not [record for record in caplog.records if record.name == watch.logger.name]
