# SPDX-License-Identifier: Apache-2.0
"""A healthy toy robot, teleoperator and camera: no bus, no port, everything in memory."""

import math
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lerobot.cameras.camera import Camera
from lerobot.cameras.configs import CameraConfig, ColorMode
from lerobot.robots.config import RobotConfig
from lerobot.robots.robot import Robot
from lerobot.robots.utils import ensure_safe_goal_position
from lerobot.teleoperators.config import TeleoperatorConfig
from lerobot.teleoperators.teleoperator import Teleoperator
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError

JOINTS = {"arm.pos": float, "claw.pos": float}
FOLDER = Path(tempfile.gettempdir()) / "lerobot_ext_toys"
"""Where devices that are not told otherwise make an (empty) folder for calibration files."""


class Speed:
    """A field that can be wrong."""

    speed: int

    def __post_init__(self):
        self.check()

    def check(self):
        if self.speed <= 0:
            raise ValueError(f"`speed` ({self.speed}) must be positive.")


class Connection:
    """What all three do to be connected: nothing but remember it."""

    on = False

    @property
    def is_connected(self):
        return self.on

    def require(self):
        if not self.on:
            raise DeviceNotConnectedError

    def connect(self, calibrate=True):
        if self.on:
            raise DeviceAlreadyConnectedError
        self.on = True

    def disconnect(self):
        self.on = False


@RobotConfig.register_subclass("toy_robot")
@dataclass(kw_only=True)
class ToyRobotConfig(Speed, RobotConfig):
    speed: int = 1
    calibration_dir: Path | None = FOLDER
    max_relative_target: float | None = None


class ToyRobot(Connection, Robot):
    name = "toy_robot"
    config_class = ToyRobotConfig
    is_calibrated = True
    observation_features = {**JOINTS, "eye": (4, 6, 3)}  # noqa: RUF012
    action_features = JOINTS

    def __init__(self, config):
        super().__init__(config)
        self.config = config
        self.places = {"arm.pos": 10.0, "claw.pos": 20.0}

    def calibrate(self):
        pass

    def configure(self):
        pass

    def get_observation(self):
        self.require()
        return {**self.places, "eye": np.zeros((4, 6, 3), np.uint8)}

    def send_action(self, action):
        self.require()
        goal = self.limited(self.known(action))
        self.places |= goal
        return goal

    def known(self, action):
        for name, value in action.items():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}")
        return {name: float(value) for name, value in action.items() if name in self.places}

    def limited(self, goal):
        if self.config.max_relative_target is None:
            return goal
        pairs = {name: (value, self.places[name]) for name, value in goal.items()}
        return ensure_safe_goal_position(pairs, self.config.max_relative_target)


@TeleoperatorConfig.register_subclass("toy_teleoperator")
@dataclass(kw_only=True)
class ToyTeleoperatorConfig(Speed, TeleoperatorConfig):
    speed: int = 1
    calibration_dir: Path | None = FOLDER


class ToyTeleoperator(Connection, Teleoperator):
    name = "toy_teleoperator"
    config_class = ToyTeleoperatorConfig
    is_calibrated = True
    action_features = JOINTS
    feedback_features = JOINTS

    def calibrate(self):
        pass

    def configure(self):
        pass

    def enable_torque(self):
        pass

    def disable_torque(self):
        pass

    def get_action(self):
        self.require()
        return {"arm.pos": 1.0, "claw.pos": np.float32(2.0)}

    def send_feedback(self, feedback):
        self.require()
        assert set(feedback) == set(JOINTS)


@CameraConfig.register_subclass("toy_camera")
@dataclass(kw_only=True)
class ToyCameraConfig(Speed, CameraConfig):
    fps: int | None = 30
    width: int | None = 8
    height: int | None = 6
    speed: int = 1
    color_mode: ColorMode = ColorMode.RGB


class ToyCamera(Connection, Camera):
    """Gives a red picture every hundredth of a second, from a thread."""

    first_frame_s = 0.0

    def __init__(self, config):
        super().__init__(config)
        self.config = config
        self.reset()

    def reset(self):
        self.frame, self.taken_s = None, 0.0
        self.fresh, self.stop, self.paused = threading.Event(), threading.Event(), threading.Event()

    @staticmethod
    def find_cameras():
        return []

    def connect(self, warmup=True):
        super().connect()
        self.reset()
        self.thread = threading.Thread(target=self.take_frames, args=(self.stop,), daemon=True)
        self.thread.start()

    def disconnect(self):
        if self.on:
            self.stop.set()
            self.thread.join()
        super().disconnect()

    def take_frames(self, stop):
        time.sleep(self.first_frame_s)
        while not stop.wait(0.01):
            if not self.paused.is_set():
                self.frame, self.taken_s = self.picture(), time.perf_counter()
                self.fresh.set()

    def picture(self):
        red, blue = (0, 2) if self.config.color_mode is ColorMode.RGB else (2, 0)
        frame = np.zeros((self.height, self.width, 3), np.uint8)
        frame[..., red], frame[..., blue] = 200, 10
        return frame

    def read(self):
        return self.async_read(1000)

    def async_read(self, timeout_ms=200):
        self.require()
        if not self.fresh.wait(timeout_ms / 1000):
            raise TimeoutError(f"no frame within {timeout_ms} ms")
        self.fresh.clear()
        return self.frame

    def read_latest(self, max_age_ms=500):
        self.require()
        if self.frame is None:
            raise RuntimeError("no frame yet")
        if (time.perf_counter() - self.taken_s) * 1000 > max_age_ms:
            raise TimeoutError(f"the frame is older than {max_age_ms} ms")
        return self.frame
