# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a Koch's calibration, told from the file's numbers and from what the motors say.

Nothing here talks to a motor. A calibration maps encoder ticks (4096 a turn) to LeRobot's units: `range_min`
and `range_max` are the stops as `Present_Position` shows them, and `Present_Position` is the encoder's
reading plus `homing_offset`. An X-series encoder is absolute within one turn only: when the power comes back,
the turns are forgotten. So a joint whose range crosses the encoder's zero can come up a whole turn off.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

TICKS_PER_TURN: Final = 4096
FULL_TURN_JOINTS: Final = ("shoulder_pan", "wrist_roll")
"""Stock calibration gives these 0..4095 without moving them."""

MAX_HOMING_OFFSET: Final = 1_044_479
"""What register `Homing_Offset` takes in the modes a Koch runs in (extended and current-based position)."""

MAX_LIMIT: Final = TICKS_PER_TURN - 1
"""What the registers `Min_Position_Limit` and `Max_Position_Limit` take, from 0."""

# Spans in ticks. Below the first a joint was not moved at all (people lean on an arm: a few degrees happen);
# below the second it was not moved from stop to stop. From the Koch v1.1's stops, which are 124° (lift), 173°
# (elbow), 229° (wrist) and 92° (gripper) apart; a leader's trigger is often stopped earlier.
MIN_SPANS: Final = {"gripper": 100}
_MIN_SPAN: Final = 200
USUAL_SPANS: Final = {"shoulder_lift": 700, "elbow_flex": 1000, "wrist_flex": 1200, "gripper": 300}

WRAP_MARGIN: Final = 64
"""Ticks (6°) that a range keeps from the encoder's zero, or a slipped horn takes it across."""

LOOSE_TICKS: Final = 60
"""A joint may stand this far (5°) outside its range: nobody sweeps it hard into the stop."""

FAR_TICKS: Final = 512
"""A joint this far (45°) outside its range cannot be the joint that was calibrated as it was calibrated."""

_HALF_TURN: Final = TICKS_PER_TURN // 2
_DRIVE_MODES: Final = 13  # largest value the register takes; bit 0 is the direction


class Entry(Protocol):
    """One joint of a calibration: LeRobot's `MotorCalibration`, which takes seconds to import."""

    @property
    def id(self) -> int:
        """Motor id."""

    @property
    def drive_mode(self) -> int:
        """Register `Drive_Mode`: 1 for an inverted joint."""

    @property
    def homing_offset(self) -> int:
        """Register `Homing_Offset`, in ticks."""

    @property
    def range_min(self) -> int:
        """Lower end of the range, in ticks."""

    @property
    def range_max(self) -> int:
        """Upper end of the range, in ticks."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or suspicious.

    Args:
        level (`str`): `error`: the arm must not be driven with it; `warning`: it works, for now.
        joint (`str`): Joint name; empty for the file as a whole.
        message (`str`): What is the matter, with the value.
        remedy (`str`): What to do.
    """

    level: Literal["error", "warning"]
    joint: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.joint + ': ' if self.joint else ''}{self.message}; {self.remedy}."


class CalibrationError(ValueError):
    """A calibration with which the arm must not be driven.

    Args:
        what (`str`): Whose calibration, and where its file is.
        findings (`Sequence[Finding]`): All that is wrong with it.

    Attributes:
        findings (`list[Finding]`): The same.
    """

    def __init__(self, what: str, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join([f"{what} cannot be used:", *(f"  - {finding}" for finding in findings)]))
        self.findings = list(findings)


def errors(findings: Sequence[Finding]) -> list[Finding]:
    """Those with which the arm must not be driven."""
    return [finding for finding in findings if finding.level == "error"]


def check_file(
    calibration: Mapping[str, Entry],
    ids: Mapping[str, int],
    drive_mode: Mapping[str, int] | None = None,
) -> list[Finding]:
    """What the numbers of a calibration tell by themselves.

    Args:
        calibration (`Mapping[str, Entry]`): Calibration by joint, as loaded or just made.
        ids (`Mapping[str, int]`): The arm's joints and their motor ids.
        drive_mode (`Mapping[str, int]`, *optional*): The config's field: direction of the joints it names.

    Returns:
        `list[Finding]`: In the order of the joints; empty if all is well.
    """
    findings = [
        Finding("error", joint, "missing in the calibration file", _again(joint))
        for joint in ids
        if joint not in calibration
    ]
    for joint, entry in calibration.items():
        if joint not in ids:
            findings.append(
                Finding(
                    "error",
                    joint,
                    "is in the calibration file, but this arm has no such joint",
                    f"is this the file of another robot? The joints are {', '.join(ids)}; calibrate again",
                )
            )
            continue
        findings += _about_identity(joint, entry, ids[joint])
        findings += _about_direction(joint, entry, (drive_mode or {}).get(joint))
        findings += _about_homing(joint, entry)
        findings += _about_range(joint, entry)
    return findings


def check_motors(
    calibration: Mapping[str, Entry],
    in_motors: Mapping[str, Entry],
    positions: Mapping[str, int],
) -> list[Finding]:
    """What the motors say about a calibration whose own numbers are good.

    Args:
        calibration (`Mapping[str, Entry]`): Calibration by joint.
        in_motors (`Mapping[str, Entry]`): The same registers as the motors hold them.
        positions (`Mapping[str, int]`): `Present_Position` of each joint in ticks.

    Returns:
        `list[Finding]`: In the order of the joints; empty if all is well.
    """
    findings: list[Finding] = []
    for joint, entry in calibration.items():
        if joint not in in_motors:
            continue
        mismatch = list(_about_mismatch(joint, entry, in_motors[joint]))
        findings += mismatch
        # With another offset or direction in the motor the position means nothing.
        if not errors(mismatch) and joint in positions:
            findings += _about_position(joint, entry, positions[joint])
    return findings


def check_limits(calibration: Mapping[str, Entry]) -> list[Finding]:
    """Ranges that a motor's limit registers would refuse; they must be found before anything is written."""
    return [finding for joint, entry in calibration.items() for finding in _about_limits(joint, entry)]


# --- one rule each


def _about_identity(joint: str, entry: Entry, id_: int) -> Iterator[Finding]:
    if entry.id != id_:
        yield Finding(
            "error",
            joint,
            f"`id` is {entry.id} in the calibration file, but the motor's is {id_}",
            "is this the file of another arm? Else calibrate again",
        )


def _about_direction(joint: str, entry: Entry, wanted: int | None) -> Iterator[Finding]:
    mode = entry.drive_mode
    if not 0 <= mode <= _DRIVE_MODES:
        yield Finding(
            "error", joint, f"`drive_mode` ({mode}) is neither 0 (normal) nor 1 (inverted)", _again(joint)
        )
    elif mode not in (0, 1):
        yield Finding(
            "warning",
            joint,
            f"`drive_mode` ({mode}) sets more than the direction (0 or 1): profiles or torque by goal",
            "calibrate again if you did not mean that",
        )
    if wanted is not None and mode & 1 != wanted:
        yield Finding(
            "error",
            joint,
            f"the calibration file was made with `drive_mode` {mode & 1}, but the config asks for {wanted}",
            "calibrate again with this config (range and offset are those of the other direction), or "
            f"take {joint} out of the config's `drive_mode`",
        )


def _about_homing(joint: str, entry: Entry) -> Iterator[Finding]:
    offset = entry.homing_offset
    if abs(offset) > MAX_HOMING_OFFSET:
        yield Finding(
            "error",
            joint,
            f"`homing_offset` ({offset}) is beyond what the servo takes (±{MAX_HOMING_OFFSET})",
            _again(joint),
        )


def _about_limits(joint: str, entry: Entry) -> Iterator[Finding]:
    low, high = entry.range_min, entry.range_max
    if min(low, high) < 0 or max(low, high) > MAX_LIMIT:
        yield Finding(
            "error",
            joint,
            f"its range ({low}..{high}) leaves what the servo takes (0..{MAX_LIMIT})",
            f"calibrate again, with {joint} in the middle of its motion at the first ENTER and without "
            "turning it round",
        )


def _about_range(joint: str, entry: Entry) -> Iterator[Finding]:
    low, high = entry.range_min, entry.range_max
    span = high - low
    if span <= 0:
        what = "is empty" if span == 0 else "is inverted"
        yield Finding("error", joint, f"its range ({low}..{high}) {what}", _again(joint))
        return
    beyond = list(_about_limits(joint, entry))
    yield from beyond
    if span < MIN_SPANS.get(joint, _MIN_SPAN):
        yield Finding(
            "error",
            joint,
            f"its range ({low}..{high}) is only {_degrees(span)} wide: it was not moved while calibrating",
            _again(joint),
        )
    elif span < USUAL_SPANS.get(joint, 0):
        yield Finding(
            "warning",
            joint,
            f"its range ({low}..{high}) is {_degrees(span)} wide; from stop to stop it is "
            f"{_degrees(USUAL_SPANS[joint])} at least",
            f"if {joint} can move further, {_again(joint)}",
        )
    if not beyond:
        yield from _about_wrapping(joint, entry)


def _about_wrapping(joint: str, entry: Entry) -> Iterator[Finding]:
    """A range across the encoder's zero, or on another turn than the one after power-up."""
    if abs(entry.homing_offset) > MAX_HOMING_OFFSET:
        return
    if (entry.range_min, entry.range_max) == (0, MAX_LIMIT):
        # The whole turn crosses zero somewhere; where the joint stands decides, see `_about_position`.
        yield from _about_turns(joint, entry, _HALF_TURN - 1 - entry.homing_offset)
        return
    low, high = entry.range_min - entry.homing_offset, entry.range_max - entry.homing_offset
    mended = (
        f"power the arm on only with {joint} near its middle; for good, turn the servo's horn so that the "
        "encoder is near 2048 there, and calibrate again"
    )
    if low // TICKS_PER_TURN != high // TICKS_PER_TURN:
        edge = high // TICKS_PER_TURN * TICKS_PER_TURN
        yield Finding(
            "warning",
            joint,
            f"its range crosses the encoder's zero ({_degrees(min(edge - low, high - edge))} from an end): "
            "if the power comes on while it stands beyond, it reads a whole turn off",
            mended,
        )
    else:
        yield from _about_turns(joint, entry, low)
        margin = min(low % TICKS_PER_TURN, MAX_LIMIT - high % TICKS_PER_TURN)
        if margin < WRAP_MARGIN:
            yield Finding(
                "warning",
                joint,
                f"its range ends {_degrees(margin)} from the encoder's zero: a little further, and it reads "
                "a whole turn off after power-up",
                mended,
            )


def _about_turns(joint: str, entry: Entry, encoder: int) -> Iterator[Finding]:
    """An offset made while the encoder had counted turns, which it forgets with the power."""
    turns = encoder // TICKS_PER_TURN
    # After power-up the encoder counts from 0 up, in an inverted servo from 0 down.
    if turns not in ((-1, 0) if entry.drive_mode & 1 else (0,)):
        yield Finding(
            "warning",
            joint,
            f"`homing_offset` ({entry.homing_offset}) was made when the servo had counted a turn or more; "
            "after the next power-up the joint reads whole turns off",
            f"switch the arm's power off and on, then {_again(joint)}",
        )


def _about_mismatch(joint: str, entry: Entry, motor: Entry) -> Iterator[Finding]:
    use_file = "run `lerobot-calibrate` and press ENTER to write the file to the motors, or calibrate again"
    for name, level in (
        ("drive_mode", "error"),
        ("homing_offset", "error"),
        # Not used in the modes a Koch runs in: the file's range counts.
        ("range_min", "warning"),
        ("range_max", "warning"),
    ):
        in_file, in_motor = getattr(entry, name), getattr(motor, name)
        if in_file != in_motor:
            yield Finding(
                "error" if level == "error" else "warning",
                joint,
                f"`{name}` is {in_file} in the calibration file, but {in_motor} in the motor",
                use_file,
            )


def _about_position(joint: str, entry: Entry, position: int) -> Iterator[Finding]:
    low, high = entry.range_min, entry.range_max
    outside = max(low - position, position - high)
    if outside <= LOOSE_TICKS:
        return
    turns = round((position - (low + high) / 2) / TICKS_PER_TURN)
    shifted = position - turns * TICKS_PER_TURN
    stands = f"stands at {position}, {_degrees(outside)} outside its calibrated range ({low}..{high})"
    if outside > FAR_TICKS and turns and low - LOOSE_TICKS <= shifted <= high + LOOSE_TICKS:
        whole = "a whole turn" if abs(turns) == 1 else f"{abs(turns)} whole turns"
        yield Finding(
            "error",
            joint,
            f"{stands}: it reads {whole} off",
            f"switch the arm's power off, move {joint} to the middle of its motion, switch it on again; if "
            "that does not help, calibrate again",
        )
    elif outside > FAR_TICKS:
        yield Finding(
            "error",
            joint,
            f"{stands}: the calibration does not fit the arm",
            f"move {joint} into its range if it was turned round, else calibrate again (was a horn or a "
            "motor changed?)",
        )
    else:
        yield Finding(
            "warning",
            joint,
            f"{stands}; readings stop at the range's end",
            f"if {joint} moves freely there, {_again(joint)}",
        )


def _again(joint: str) -> str:
    if joint in FULL_TURN_JOINTS:
        return f"calibrate again, with {joint} in the middle of its motion at the first ENTER"
    return f"calibrate again and move {joint} from stop to stop before the second ENTER"


def _degrees(ticks: int) -> str:
    return f"{ticks * 360 / TICKS_PER_TURN:.0f}°"
