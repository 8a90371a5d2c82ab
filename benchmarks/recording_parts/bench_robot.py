# SPDX-License-Identifier: Apache-2.0
"""The robot: hands out prepared pictures at once, and notes when it was asked."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot.robots import Robot
from lerobot.robots.config import RobotConfig

from lerobot_ext.recording.scene import scene
from lerobot_ext.recording.trial import view

JOINTS = {f"joint_{n}.pos": float for n in range(6)}
PICTURES = 60


@RobotConfig.register_subclass("bench_robot")
@dataclass(kw_only=True)
class BenchRobotConfig(RobotConfig):
    """Cameras of one size, and where to write when frames were asked for."""

    report: Path
    n_cameras: int = 3
    width: int = 640
    height: int = 480


class BenchRobot(Robot):
    """See the module."""

    config_class = BenchRobotConfig
    name = "bench_robot"
    is_calibrated = True

    def __init__(self, config: BenchRobotConfig) -> None:
        super().__init__(config)
        self.config = config
        self.cameras = {f"cam{n}": None for n in range(config.n_cameras)}
        self._views: list[Any] = []
        self._asked_s: list[float] = []
        self._answered_s = 0.0
        self._cpu_s = 0.0

    @property
    def observation_features(self) -> dict[str, Any]:
        """Six joints, and the cameras."""
        return JOINTS | dict.fromkeys(self.cameras, (self.config.height, self.config.width, 3))

    @property
    def action_features(self) -> dict[str, Any]:
        """The joints."""
        return JOINTS

    @property
    def is_connected(self) -> bool:
        """Whether there are pictures."""
        return bool(self._views)

    def connect(self, calibrate: bool = True) -> None:
        """Make the pictures, before anything is timed."""
        pictures = list(scene(PICTURES, 0, self.config.height, self.config.width))
        self._views = [view(pictures, camera) for camera in range(self.config.n_cameras)]

    def calibrate(self) -> None:
        """Nothing to do."""

    def configure(self) -> None:
        """Nothing to do."""

    def get_observation(self) -> dict[str, Any]:
        """The next picture of each camera."""
        if not self._asked_s:
            self._cpu_s = _cpu_s()
        self._asked_s.append(time.perf_counter())
        pictures = {name: next(frames) for name, frames in zip(self.cameras, self._views, strict=True)}
        return dict.fromkeys(JOINTS, 0.0) | pictures

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Nothing moves."""
        self._answered_s = time.perf_counter()
        return action

    def disconnect(self) -> None:
        """Write the report: the episode is saved and the dataset finished by now."""
        times = {
            "asked_s": self._asked_s,
            "saved_after_s": time.perf_counter() - self._answered_s,
            "cpu_s": _cpu_s() - self._cpu_s,
        }
        self.config.report.write_text(json.dumps(times), encoding="utf-8")
        self._views = []


def _cpu_s() -> float:
    """Seconds of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
