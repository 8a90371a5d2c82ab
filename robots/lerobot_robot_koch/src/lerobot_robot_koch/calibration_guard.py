# SPDX-License-Identifier: Apache-2.0
"""Puts the calibration check between connecting a Koch and its torque, without closing the way to repair it.

- `connect()` with a bad file: at a terminal it goes straight to stock's calibration (the bad file is not
  offered); without one it refuses.
- `connect(calibrate=False)` with a bad file: connects, but touches no motor and hands out no position and no
  command until `calibrate()` has succeeded. That is what `lerobot-calibrate` needs, and all it needs.
- A calibration that was just made is checked at once.
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draccus.utils import DraccusException

from lerobot_robot_koch.calibration_check import (
    CalibrationError,
    Finding,
    check_file,
    check_motors,
    errors,
)

if TYPE_CHECKING:
    from lerobot.motors import MotorCalibration

    from lerobot_robot_koch.drive_modes import DirectedBus

logger = logging.getLogger(__name__)


class CalibrationGuard:
    """What both Koch devices put before the stock class in their bases."""

    if TYPE_CHECKING:
        name: str
        id: str | None
        config: Any
        bus: DirectedBus
        calibration: dict[str, MotorCalibration]
        calibration_fpath: Path

    # Class attributes, because the stock constructor loads the file before ours can set anything.
    _unreadable: Finding | None = None
    _refused: tuple[Finding, ...] = ()
    _asks = False

    # --- stock's methods

    def _load_calibration(self, fpath: Path | None = None) -> None:
        """See `Robot._load_calibration`; a damaged file is kept for `connect`, or nothing could repair it."""
        path = self.calibration_fpath if fpath is None else fpath
        try:
            super()._load_calibration(fpath)  # type: ignore[misc]
        # Of well-formed JSON with other things in it draccus says so in various ways.
        except (DraccusException, ValueError, TypeError, AttributeError, KeyError) as error:
            reason = str(error.__cause__ or error).partition("\n")[0]
            self._unreadable = Finding(
                "error",
                "",
                f"{path} is not a calibration file ({reason})",
                "restore it from a copy, or calibrate again",
            )

    @property
    def is_calibrated(self) -> bool:
        """Whether file and motors agree, on numbers with which the arm can be driven."""
        return not self._file_errors() and bool(super().is_calibrated)  # type: ignore[misc]

    def connect(self, calibrate: bool = True) -> None:
        """See the stock class.

        Raises:
            CalibrationError: The arm must not be driven with this calibration; the message lists why. The
                port is closed again, and no torque was switched.
        """
        self._asks, self._refused = calibrate, ()
        try:
            super().connect(calibrate)  # type: ignore[misc]
        except CalibrationError:
            self._close()
            raise
        finally:
            self._asks = False

    def calibrate(self) -> None:
        """See the stock class; a file that cannot be used is not offered, and the result is checked.

        Raises:
            CalibrationError: The result cannot be used, or there is nobody to ask.
        """
        bad = self._file_errors()
        if bad and self._asks and not sys.stdin.isatty():
            raise self._error(bad)
        kept, kept_by_bus, unreadable = self.calibration, self.bus.calibration, self._unreadable
        if bad:
            logger.warning("%s: calibrating again.", self._error(bad))
            self.calibration = self.bus.calibration = {}
            self._unreadable = None
        try:
            super().calibrate()  # type: ignore[misc]
        except BaseException as error:
            self.calibration, self.bus.calibration, self._unreadable = kept, kept_by_bus, unreadable
            if isinstance(error, EOFError):
                raise self._nobody_to_ask() from None
            raise
        self._raise_errors(self._findings())
        self._refused = ()

    def configure(self) -> None:
        """See the stock class; the check comes first, because this switches the torque on.

        Raises:
            CalibrationError: The arm must not be driven with this calibration.
        """
        findings = self._findings()
        if errors(findings) and not self._asks:
            self._refused = tuple(errors(findings))
            logger.error(
                "%s\nThe motors are left as they are until it is calibrated.", self._error(self._refused)
            )
            return
        self._raise_errors(findings)
        super().configure()  # type: ignore[misc]

    # --- for the devices

    def require_calibration(self) -> None:
        """To be called before a position is handed out or commanded.

        Raises:
            CalibrationError: `connect(calibrate=False)` found a calibration that cannot be used.
        """
        if self._refused:
            raise self._error(self._refused)

    # --- inside

    def _findings(self) -> list[Finding]:
        """About file, motors and pose; without the last two when the file's numbers are bad already."""
        findings = self._file_findings()
        if not errors(findings) and self.calibration:
            findings += check_motors(self.calibration, self.bus.read_calibration(), self._positions())
        return findings

    def _file_findings(self) -> list[Finding]:
        if self._unreadable is not None:
            return [self._unreadable]
        if not self.calibration:
            return []  # no file: stock asks for a calibration
        ids = {joint: motor.id for joint, motor in self.bus.motors.items()}
        return check_file(self.calibration, ids, self.config.drive_mode)

    def _file_errors(self) -> list[Finding]:
        return errors(self._file_findings())

    def _positions(self) -> dict[str, int]:
        positions = self.bus.sync_read("Present_Position", normalize=False)
        return {joint: int(position) for joint, position in positions.items()}

    def _raise_errors(self, findings: list[Finding]) -> None:
        for finding in findings:
            if finding.level == "warning":
                logger.warning("Calibration of %s: %s", self._called(), finding)
        if errors(findings):
            raise self._error(errors(findings))

    def _error(self, findings: list[Finding] | tuple[Finding, ...]) -> CalibrationError:
        return CalibrationError(f"the calibration of {self._called()} ({self.calibration_fpath})", findings)

    def _nobody_to_ask(self) -> CalibrationError:
        terminal = "run `lerobot-calibrate` for it in a terminal once"
        in_motors = self.bus.read_calibration() if self.calibration else {}
        differences = check_motors(self.calibration, in_motors, positions={})
        if not differences:
            return self._error(
                [Finding("error", "", "there is none yet, and no terminal to ask at", terminal)]
            )
        return self._error([Finding("error", f.joint, f.message, terminal) for f in differences])

    def _called(self) -> str:
        return f"{self.name} {self.id!r}" if self.id else self.name

    def _close(self) -> None:
        """Leave the arm as it was found: close cameras and port, do not touch the torque."""
        for camera in getattr(self, "cameras", {}).values():
            if camera.is_connected:
                camera.disconnect()
        if self.bus.is_connected:
            self.bus.disconnect(disable_torque=False)
