# SPDX-License-Identifier: Apache-2.0
"""Lets the config choose which way single joints turn, and keeps file and motors agreed about it.

Stock calibration decides the direction itself: the follower's file says 0 for every joint whatever the
motors hold, the leader inverts its elbow. And stock never writes the direction back from a file, so that an
arm whose motor holds another one asks to be calibrated for ever. Here the direction is written to the motors
when a fresh calibration starts, goes from there into its file, and is restored from the file like the rest.
"""

from collections.abc import Mapping
from typing import Any

from lerobot.motors import MotorCalibration

from lerobot_robot_koch.bus import RobustDynamixelBus
from lerobot_robot_koch.calibration_check import CalibrationError, check_limits
from lerobot_robot_koch.config_bus import JOINTS

STOCK_INVERTED = {"koch_follower": (), "koch_leader": ("elbow_flex",)}
"""Joints that stock calibration inverts, by device; a test calibrates both and compares."""


def wanted_drive_modes(device: str, overrides: Mapping[str, int]) -> dict[str, int]:
    """Direction of every joint in a fresh calibration: the config's, else stock's.

    Args:
        device (`str`): `koch_follower` or `koch_leader`.
        overrides (`Mapping[str, int]`): The config's `drive_mode`.

    Returns:
        `dict[str, int]`: 0 or 1 by joint.
    """
    return {joint: overrides.get(joint, int(joint in STOCK_INVERTED[device])) for joint in JOINTS}


class DirectedBus(RobustDynamixelBus):
    """A robust bus that also owns register `Drive_Mode`.

    Attributes:
        drive_modes (`dict[str, int]`): Direction of each joint in a fresh calibration. Empty: as stock.
    """

    drive_modes: Mapping[str, int] = {}
    _calibrating = False

    def set_half_turn_homings(self, motors: Any = None) -> dict[Any, Any]:
        """See `DynamixelMotorsBus.set_half_turn_homings`; the directions come first."""
        self.write_drive_modes(self.drive_modes)
        self._calibrating = True
        homings: dict[Any, Any] = super().set_half_turn_homings(motors)
        return homings

    def write_calibration(self, calibration_dict: dict[str, MotorCalibration], cache: bool = True) -> None:
        """See `DynamixelMotorsBus.write_calibration`; writes the directions too.

        Of a fresh calibration the entries get the directions with which it was made: stock puts in its own.

        Raises:
            CalibrationError: A range is beyond what the motors take; nothing has been written.
        """
        if self._calibrating:
            self._calibrating = False
            for joint, mode in self.drive_modes.items():
                if joint in calibration_dict:
                    calibration_dict[joint].drive_mode = mode
        refused = check_limits(calibration_dict)
        if refused:
            raise CalibrationError(f"the calibration for port {self.port!r}", refused)
        self.write_drive_modes({joint: entry.drive_mode for joint, entry in calibration_dict.items()})
        super().write_calibration(calibration_dict, cache)

    def write_drive_modes(self, drive_modes: Mapping[str, int]) -> None:
        """Write register `Drive_Mode` of the motors that hold another value: permanent memory wears out.

        Args:
            drive_modes (`Mapping[str, int]`): Value by joint. Torque must be off.
        """
        for joint, mode in drive_modes.items():
            if self.read("Drive_Mode", joint, normalize=False) != mode:
                self.write("Drive_Mode", joint, mode, normalize=False)
