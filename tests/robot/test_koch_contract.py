# SPDX-License-Identifier: Apache-2.0
"""Our Koch arms, LeRobot's own, and its zmq camera under the kit's contracts, on the virtual bench."""

from pathlib import Path
from typing import ClassVar

import pytest
from lerobot.cameras.zmq import ZMQCameraConfig
from lerobot.robots.koch_follower import KochFollowerConfig
from lerobot.teleoperators.koch_leader import KochLeaderConfig
from lerobot_env_koch.bench.assembly import Bench, BenchConfig
from lerobot_env_koch.bench.hand import HandMode
from lerobot_env_koch.constants import JOINT_NAMES
from lerobot_robot_koch import RobustKochFollowerConfig, RobustKochLeaderConfig
from stock_cli import PATIENCE_MS

from lerobot_ext.testing import CameraContract, RobotContract, TeleoperatorContract, known_failure

BENCH: dict[str, Bench] = {}


@pytest.fixture(autouse=True, scope="module")
def bench(tmp_path_factory):
    """One bench for all: a contract judges each rule once, when it is first asked for."""
    folder: Path = tmp_path_factory.mktemp("contract")
    config = BenchConfig(
        run_dir=folder / "bench",
        calibrated=True,
        calibration_dir=folder / "calibration",
        cameras=("top",),
        camera_height=48,
        camera_width=64,
        base_port=0,
        hand=HandMode("idle"),
    )
    with Bench(config) as running:
        BENCH["it"] = running
        yield running
    BENCH.clear()


class OnTheBench:
    """Where the arms are; they are there, so not reaching one is a failure."""

    arm: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _try_again_when_repeated(self):
        type(self).forget_failures()

    def has_device(self):
        return True

    def place(self):
        ready = BENCH["it"].ready()
        file = Path(ready["calibration_files"][self.arm])
        return {"port": ready["ports"][self.arm], "id": file.stem, "calibration_dir": file.parent}


class TestOurFollower(OnTheBench, RobotContract):
    arm = "follower"

    def make_config(self):
        return RobustKochFollowerConfig(**self.place(), give_up_ms=PATIENCE_MS)

    def bad_settings(self):
        return {"on_bus_loss": "panic", "num_read_retries": -1, "give_up_ms": -1}

    def may_move_far(self):
        return True


class TestOurLeader(OnTheBench, TeleoperatorContract):
    arm = "leader"

    def make_config(self):
        return RobustKochLeaderConfig(**self.place(), give_up_ms=PATIENCE_MS)

    def bad_settings(self):
        return {"num_write_retries": -1}

    def robot_action_features(self):
        return {f"{joint}.pos": float for joint in JOINT_NAMES}


class TestStockFollower(RobotContract):
    # Not connected: LeRobot's bus gives up at the first late answer, and a busy test machine is often late.
    may_connect = False

    def make_config(self):
        return KochFollowerConfig(port="/dev/none")


class TestStockLeader(TeleoperatorContract):
    may_connect = False

    def make_config(self):
        return KochLeaderConfig(port="/dev/none")

    def robot_action_features(self):
        return {f"{joint}.pos": float for joint in JOINT_NAMES}


class TestStockZmqCamera(CameraContract):
    def make_config(self):
        settings = BENCH["it"].ready()["cameras"]["top"]
        return ZMQCameraConfig(
            server_address=settings["server_address"],
            port=settings["port"],
            camera_name="top",
            width=64,
            height=48,
            fps=30,
        )

    def bad_settings(self):
        return {"timeout_ms": 0, "port": 70_000}

    def has_device(self):
        return True

    def scene_is_still(self):
        return True

    test_gives_the_colours_it_is_asked_for = known_failure(
        CameraContract.test_gives_the_colours_it_is_asked_for,
        "LeRobot 0.6.1, cameras/zmq/camera_zmq.py:209: `color_mode` is kept and never used",
    )
