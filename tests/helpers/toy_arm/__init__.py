# SPDX-License-Identifier: Apache-2.0
"""The toy robot as a stock command line can have it: `--robot.discover_packages_path=toy_arm`.

A package, because LeRobot asks for the folder of what it discovers. What its motors get is written to the
file that `TOY_ARM_LOG` names.
"""

import json
import os
from dataclasses import dataclass

from lerobot.robots.config import RobotConfig
from toy_devices import ToyRobot, ToyRobotConfig


@RobotConfig.register_subclass("toy_arm")
@dataclass(kw_only=True)
class ToyArmConfig(ToyRobotConfig):
    pass


class ToyArm(ToyRobot):
    name = "toy_arm"
    config_class = ToyArmConfig
    cameras = {}  # noqa: RUF012 - stock recording counts them

    def send_action(self, action):
        with open(os.environ["TOY_ARM_LOG"], "a") as log:
            log.write(json.dumps({name: float(value) for name, value in action.items()}) + "\n")
        return super().send_action(action)
