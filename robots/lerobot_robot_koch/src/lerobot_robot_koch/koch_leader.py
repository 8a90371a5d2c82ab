# SPDX-License-Identifier: Apache-2.0
"""What `--teleop.type=koch_leader` builds once this plugin is installed."""

from typing import Any

from lerobot.motors.dynamixel import DynamixelMotorsBus
from lerobot.teleoperators.koch_leader import KochLeader

from lerobot_robot_koch.bus import RobustDynamixelBus
from lerobot_robot_koch.config_koch_leader import RobustKochLeaderConfig
from lerobot_robot_koch.session import connecting, disconnecting
from lerobot_robot_koch.stale_values import JOURNAL


class RobustKochLeader(KochLeader):
    """Stock Koch leader on a bus with retries.

    Args:
        config (`RobustKochLeaderConfig`): Its configuration.
    """

    config_class = RobustKochLeaderConfig

    def __init__(self, config: RobustKochLeaderConfig) -> None:
        super().__init__(config)
        stock_bus: DynamixelMotorsBus = self.bus  # type: ignore[has-type]
        self.bus = RobustDynamixelBus.replacing(
            stock_bus, num_read_retries=config.num_read_retries, num_write_retries=config.num_write_retries
        )

    def connect(self, calibrate: bool = True) -> None:
        """See `KochLeader.connect`."""
        with connecting(self):
            super().connect(calibrate)

    def get_action(self) -> dict[str, Any]:
        """Joint positions; see `KochLeader.get_action`."""
        JOURNAL.start_read(self.name)
        action: dict[str, Any] = super().get_action()
        return action

    def disconnect(self) -> None:
        """See `KochLeader.disconnect`."""
        with disconnecting(self):
            super().disconnect()
