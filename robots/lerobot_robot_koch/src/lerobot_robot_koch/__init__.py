# SPDX-License-Identifier: Apache-2.0
"""Koch leader and follower for the stock LeRobot CLIs that keep working on a lossy Dynamixel bus.

Importing this package makes `--robot.type=koch_follower` and `--teleop.type=koch_leader` mean our subclasses;
the stock classes stay reachable as `koch_follower_stock` and `koch_leader_stock`. Only configs are imported
here: LeRobot's factory imports the device classes when it builds one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lerobot.robots.config import RobotConfig
from lerobot.teleoperators.config import TeleoperatorConfig

from lerobot_ext.overrides import replace_choice
from lerobot_ext.plugins import load_all
from lerobot_robot_koch.config_koch_follower import RobustKochFollowerConfig
from lerobot_robot_koch.config_koch_leader import RobustKochLeaderConfig
from lerobot_robot_koch.config_tracker import TrackerConfig

if TYPE_CHECKING:
    from lerobot_robot_koch.koch_follower import RobustKochFollower
    from lerobot_robot_koch.koch_leader import RobustKochLeader

__version__ = "0.1.0"

__all__ = [
    "RobustKochFollower",
    "RobustKochFollowerConfig",
    "RobustKochLeader",
    "RobustKochLeaderConfig",
    "TrackerConfig",
]

replace_choice(RobotConfig, "koch_follower", RobustKochFollowerConfig)
replace_choice(TeleoperatorConfig, "koch_leader", RobustKochLeaderConfig)

_DEVICES = {"RobustKochFollower": "koch_follower", "RobustKochLeader": "koch_leader"}


def __getattr__(name: str) -> Any:
    """Import a device class when it is first asked for."""
    if name in _DEVICES:
        return getattr(import_module(f"{__name__}.{_DEVICES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


load_all()
