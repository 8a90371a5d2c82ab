# SPDX-License-Identifier: Apache-2.0
"""Server and client in one process, over real gRPC: a robot on paper is driven by a saved policy."""

import pytest
from serving_checkpoints import TARGET

from lerobot_ext.serving.link import Link, Server
from lerobot_ext.serving.robot_client import Pace, RobotClient
from lerobot_ext.serving.timesteps import TimestepQueue


def newer(old, new):
    return new


@pytest.fixture
def drive(make_join, stop):
    """Drives `robot` for a number of seconds, and returns the client and its link."""

    def run(robot, address, seconds=1.0, *, join=None, fps=30.0, threshold=0.5, trace=None, **server):
        queue = TimestepQueue(newer)
        link = Link(Server(address, **server), join or make_join(robot), queue, give_up_s=20.0)
        try:
            link.start()
            link.wait_until_welcome(stop)
            robot.connect()
            client = RobotClient(robot, link, queue, Pace(fps, seconds, threshold, "reach"), trace)
            client.run(stop)
        finally:
            link.close()
        return client, link

    return run


def test_a_stock_policy_drives_the_robot(serve, drive, robot, act_checkpoint):
    with serve([act_checkpoint]) as (service, address):
        client, link = drive(robot, address, 2.0)
    assert client.counts.actions > 20
    assert list(robot.joints.values()) == pytest.approx(TARGET, abs=1e-4)
    assert service.counts.sessions == 1
    assert link.counts.chunks >= 2
    assert service.driver is None  # the client gave its session back
