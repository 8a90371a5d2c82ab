# SPDX-License-Identifier: Apache-2.0
"""What `--robot.type=koch_follower` builds once this plugin is installed."""

import logging
import time
from functools import cached_property
from typing import Any

from lerobot.motors.dynamixel import DynamixelMotorsBus
from lerobot.robots.koch_follower import KochFollower

from lerobot_ext.pipelines.device import robot_pipelines
from lerobot_ext.recording.spent import SPENT
from lerobot_robot_koch.calibration_guard import CalibrationGuard
from lerobot_robot_koch.config_koch_follower import RobustKochFollowerConfig
from lerobot_robot_koch.drive_modes import DirectedBus, wanted_drive_modes
from lerobot_robot_koch.losses import lost_since
from lerobot_robot_koch.session import connecting, disconnecting
from lerobot_robot_koch.stale_values import JOURNAL
from lerobot_robot_koch.tracker import Tracker

logger = logging.getLogger(__name__)


class RobustKochFollower(CalibrationGuard, KochFollower):
    """Stock Koch follower on a robust bus, with an optional object tracker.

    Class attribute `name` stays `koch_follower`: calibration files keep their folder and datasets their robot
    type.

    Args:
        config (`RobustKochFollowerConfig`): Its configuration.
    """

    config_class = RobustKochFollowerConfig

    def __init__(self, config: RobustKochFollowerConfig) -> None:
        super().__init__(config)
        # The port is not open yet, so the bus can still be exchanged.
        stock_bus: DynamixelMotorsBus = self.bus  # type: ignore[has-type]
        self.bus = DirectedBus.replacing(stock_bus, config, self.name)
        self.bus.drive_modes = wanted_drive_modes(self.name, config.drive_mode)
        self._connected_s = 0.0
        self.tracker = Tracker(config.tracker) if config.tracker is not None else None
        # Now, so that a wrong file ends the command before anything is connected.
        self.pipelines = robot_pipelines(
            config.pipeline, self.name, self._motors_ft, self._own_observation_features
        )

    @property
    def observation_features(self) -> dict[str, Any]:
        """Joints, tracker values, cameras, the order of `observation.state`; or what steps make of it."""
        if self.pipelines is not None:
            return self.pipelines.observation_features
        return self._own_observation_features

    @property
    def action_features(self) -> dict[str, Any]:
        """The joints; or what the steps of `pipeline` start from."""
        return self.pipelines.action_features if self.pipelines is not None else self._motors_ft

    @cached_property
    def _own_observation_features(self) -> dict[str, Any]:
        tracked = self.tracker.features if self.tracker is not None else {}
        return {**self._motors_ft, **tracked, **self._cameras_ft}

    def connect(self, calibrate: bool = True) -> None:
        """Connect tracker and arm; see `KochFollower.connect`.

        Raises:
            ConnectionError: Port, motors or tracker cannot be reached; the message says what to check.
            CalibrationError: The arm must not be driven with this calibration; the message says why.
        """
        if self.tracker is not None:
            # First, because it moves nothing: a missing tracker should not leave an arm under torque.
            self.tracker.connect()
        self._connected_s = time.monotonic()
        try:
            with connecting(self):
                super().connect(calibrate)
        except BaseException:
            self._close_tracker()
            raise

    def get_observation(self) -> dict[str, Any]:
        """Joint positions, tracker values, camera frames; see `KochFollower.get_observation`.

        Raises:
            BusLostError: The arm does not answer.
            TimeoutError: The tracker's last values are older than its `max_age_s`.
            StepError: A step of `pipeline` failed.
        """
        observation = self._observe()
        return observation if self.pipelines is None else self.pipelines.observe(observation)

    def _observe(self) -> dict[str, Any]:
        """The arm's own observation, before the steps."""
        self.require_calibration()
        JOURNAL.start_read(self.name)
        # The bus counts its own time, so that what is left is the cameras'.
        with self.bus.tolerating_loss(), SPENT.on("cameras"):
            observation: dict[str, Any] = super().get_observation()
        if self.tracker is not None:
            observation.update(self.tracker.read())
        return observation

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Command joint targets; see `KochFollower.send_action`.

        Values of the tracker are left out: `lerobot-rollout` sends its first observation back as an action to
        return to where the arm was, tracked objects included.

        Raises:
            StepError: A step of `pipeline` failed, or made no command; nothing was sent.
        """
        self.require_calibration()
        if self.pipelines is None:
            return self._send(action)
        return self.pipelines.sent(action, self._send(self.pipelines.command(action, self._observe)))

    def _send(self, action: dict[str, Any]) -> dict[str, Any]:
        """Command the motors."""
        tracked = self.tracker.features if self.tracker is not None else {}
        with self.bus.tolerating_loss(), SPENT.on("bus"):
            sent: dict[str, Any] = super().send_action({k: v for k, v in action.items() if k not in tracked})
        return sent

    def disconnect(self) -> None:
        """See `KochFollower.disconnect`; what happens to the torque after a lost bus, `on_bus_loss` says."""
        self.bus.keep_torque = self.config.on_bus_loss == "hold" and lost_since(self._connected_s)
        if self.bus.keep_torque and self.config.disable_torque_on_disconnect:
            logger.warning(
                "%s: a bus was lost, the arm HOLDS ITS POSE with the torque on. Support it, then run "
                "`lerobot-ext relax --port %s`.",
                self,
                self.config.port,
            )
        try:
            with disconnecting(self):
                super().disconnect()
        finally:
            self._close_tracker()

    def _close_tracker(self) -> None:
        if self.tracker is not None:
            self.tracker.close()
