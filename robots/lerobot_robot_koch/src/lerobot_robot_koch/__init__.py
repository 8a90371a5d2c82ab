# SPDX-License-Identifier: Apache-2.0
"""Koch leader and follower for the stock LeRobot CLIs that keep working on a lossy Dynamixel bus.

Importing this package makes `--robot.type=koch_follower` and `--teleop.type=koch_leader` mean our subclasses,
as soon as LeRobot's own packages are imported; the stock classes stay reachable as `koch_follower_stock` and
`koch_leader_stock`. Only configs are imported then; LeRobot's factory imports the devices when it builds one.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lerobot_ext.plugins import lazy_attributes, load_all, when_imported

if TYPE_CHECKING:
    from lerobot_robot_koch.config_koch_follower import RobustKochFollowerConfig
    from lerobot_robot_koch.config_koch_leader import RobustKochLeaderConfig
    from lerobot_robot_koch.config_tracker import TrackerConfig
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

__getattr__ = lazy_attributes(
    __name__,
    {
        "RobustKochFollower": "koch_follower",
        "RobustKochFollowerConfig": "config_koch_follower",
        "RobustKochLeader": "koch_leader",
        "RobustKochLeaderConfig": "config_koch_leader",
        "TrackerConfig": "config_tracker",
    },
)


when_imported("lerobot.robots", lambda: import_module(f"{__name__}.config_koch_follower"))
when_imported("lerobot.teleoperators", lambda: import_module(f"{__name__}.config_koch_leader"))
load_all()
