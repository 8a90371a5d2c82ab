# SPDX-License-Identifier: Apache-2.0
"""What `--teleop.type=koch_leader` builds once this plugin is installed."""

from lerobot.motors.dynamixel import DynamixelMotorsBus
from lerobot.teleoperators.koch_leader import KochLeader

from lerobot_robot_koch.calibration_guard import CalibrationGuard
from lerobot_robot_koch.config_koch_leader import RobustKochLeaderConfig
from lerobot_robot_koch.drive_modes import DirectedBus, wanted_drive_modes


class RobustKochLeader(CalibrationGuard, KochLeader):
    """Stock Koch leader on a bus with retries.

    Args:
        config (`RobustKochLeaderConfig`): Its configuration.
    """

    config_class = RobustKochLeaderConfig

    def __init__(self, config: RobustKochLeaderConfig) -> None:
        super().__init__(config)
        stock_bus: DynamixelMotorsBus = self.bus  # type: ignore[has-type]
        self.bus = DirectedBus.replacing(
            stock_bus, num_read_retries=config.num_read_retries, num_write_retries=config.num_write_retries
        )
        self.bus.drive_modes = wanted_drive_modes(self.name, config.drive_mode)

    def get_action(self) -> dict[str, float]:
        """Joint positions; see `KochLeader.get_action`."""
        self.require_calibration()
        action: dict[str, float] = super().get_action()
        return action
