# SPDX-License-Identifier: Apache-2.0
"""What `--teleop.type=koch_leader` builds once this plugin is installed."""

from typing import Any

from lerobot.motors.dynamixel import DynamixelMotorsBus
from lerobot.teleoperators.koch_leader import KochLeader

from lerobot_ext.pipelines.device import TeleopPipelines
from lerobot_robot_koch.calibration_guard import CalibrationGuard
from lerobot_robot_koch.config_koch_leader import RobustKochLeaderConfig
from lerobot_robot_koch.drive_modes import DirectedBus, wanted_drive_modes
from lerobot_robot_koch.session import connecting, disconnecting
from lerobot_robot_koch.stale_values import JOURNAL


class RobustKochLeader(CalibrationGuard, KochLeader):
    """Stock Koch leader on a robust bus.

    Args:
        config (`RobustKochLeaderConfig`): Its configuration.
    """

    config_class = RobustKochLeaderConfig

    def __init__(self, config: RobustKochLeaderConfig) -> None:
        super().__init__(config)
        stock_bus: DynamixelMotorsBus = self.bus  # type: ignore[has-type]
        self.bus = DirectedBus.replacing(stock_bus, config, self.name)
        self.bus.drive_modes = wanted_drive_modes(self.name, config.drive_mode)
        motors = super().action_features
        self.pipelines = TeleopPipelines(config.pipeline, motors) if config.pipeline else None

    @property
    def action_features(self) -> dict[str, Any]:
        """The joints; or what the steps of `pipeline` make of them."""
        own: dict[str, Any] = super().action_features
        return own if self.pipelines is None else self.pipelines.action_features

    def connect(self, calibrate: bool = True) -> None:
        """See `KochLeader.connect`."""
        with connecting(self):
            super().connect(calibrate)

    def get_action(self) -> dict[str, float]:
        """Joint positions, each at most `max_stale_ms` old; see `KochLeader.get_action`.

        Raises:
            BusLostError: The arm does not answer.
            StepError: A step of `pipeline` failed.
        """
        self.require_calibration()
        JOURNAL.start_read(self.name)
        with self.bus.tolerating_loss():
            action: dict[str, float] = super().get_action()
        return action if self.pipelines is None else self.pipelines.act(action)

    def disconnect(self) -> None:
        """See `KochLeader.disconnect`."""
        with disconnecting(self):
            super().disconnect()
