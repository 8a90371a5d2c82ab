# SPDX-License-Identifier: Apache-2.0
"""Compares an arm's calibration file with what the doctor read from its motors; LeRobot is not imported."""

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from lerobot_ext.doctor.findings import Finding, problem
from lerobot_robot_koch.calibration_check import check_file, check_motors, errors
from lerobot_robot_koch.config_bus import JOINTS
from lerobot_robot_koch.doctor.measure import BusReport, MotorReport

_FOLDERS: Final = {
    "koch_follower": Path("robots", "koch_follower"),
    "koch_leader": Path("teleoperators", "koch_leader"),
}


@dataclass(frozen=True)
class _Entry:
    """The fields of LeRobot's `MotorCalibration`."""

    id: int
    drive_mode: int
    homing_offset: int
    range_min: int
    range_max: int


_NAMES: Final = tuple(field.name for field in fields(_Entry))
_REGISTERS: Final = _NAMES[1:]


def calibration_path(arm: str, id_: str, folder: str | None = None) -> Path:
    """Where the stock CLIs keep an arm's calibration.

    Args:
        arm (`str`): `koch_follower` or `koch_leader`.
        id_ (`str`): What `--robot.id` or `--teleop.id` says.
        folder (`str`, *optional*): What `--robot.calibration_dir` says.
    """
    if folder is not None:
        return Path(folder).expanduser() / f"{id_}.json"
    from huggingface_hub.constants import HF_HOME

    home = os.environ.get("HF_LEROBOT_HOME", Path(HF_HOME) / "lerobot")
    root = Path(os.environ.get("HF_LEROBOT_CALIBRATION", Path(home) / "calibration"))
    return root.expanduser() / _FOLDERS[arm] / f"{id_}.json"


def about_calibration(report: BusReport, path: Path) -> list[Finding]:
    """Findings of kind `calibration` about a file and the motors that were read.

    Args:
        report (`BusReport`): What was measured.
        path (`Path`): The calibration file.
    """
    try:
        calibration = _load(path)
    except FileNotFoundError:
        return [
            _problem(f"there is no calibration file {path}", "run `lerobot-calibrate`, or correct the id")
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = error if str(error) else type(error).__name__
        return [_problem(f"{path} is not a calibration file ({reason})", "run `lerobot-calibrate`")]
    findings = check_file(calibration, {joint: i + 1 for i, joint in enumerate(JOINTS)})
    if not errors(findings):
        read = {m.id: m for m in report.present if {*_REGISTERS, "position"} <= m.registers.keys()}
        motors = {joint: read[i + 1] for i, joint in enumerate(JOINTS) if i + 1 in read}
        in_motors = {joint: _in_motor(motor) for joint, motor in motors.items()}
        positions = {joint: motor.registers["position"] for joint, motor in motors.items()}
        findings += check_motors(calibration, in_motors, positions)
    return [
        Finding(
            "problem" if finding.level == "error" else "note",
            "calibration",
            finding.joint,
            finding.message,
            finding.remedy,
        )
        for finding in findings
    ]


def _problem(message: str, remedy: str) -> Finding:
    return problem("calibration", "calibration", message, remedy)


def _load(path: Path) -> dict[str, _Entry]:
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {
        joint: _Entry(**{name: _whole(entry[name]) for name in _NAMES}) for joint, entry in entries.items()
    }


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _in_motor(motor: MotorReport) -> _Entry:
    return _Entry(motor.id, *(motor.registers[name] for name in _REGISTERS))
