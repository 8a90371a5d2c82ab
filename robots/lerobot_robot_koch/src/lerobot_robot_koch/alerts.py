# SPDX-License-Identifier: Apache-2.0
"""What the error byte of a reply and the hardware error status of an X-series servo mean, and what to do.

Bits and codes from https://emanual.robotis.com/docs/en/dxl/protocol2/#error and
https://emanual.robotis.com/docs/en/dxl/x/xl330-m288/#hardware-error-status.
"""

from typing import Final

ALERT_BIT: Final = 0x80
"""Set in the error byte of every reply while the hardware error status is not zero."""
CRC_ERROR: Final = 0x03
"""The servo received the request damaged: as good as lost."""

_CODES: Final = {
    0x01: "it could not carry out the request",
    0x02: "it does not know the instruction",
    CRC_ERROR: "it received the request damaged",
    0x04: "the value is out of range",
    0x05: "the data is too short",
    0x06: "the value exceeds a limit set in another register",
    0x07: "the register cannot be written now (locked while the torque is on, or read only)",
}
_HARDWARE: Final = {
    0x01: ("voltage", "check power supply, polarity and the gauge of its cable"),
    0x04: ("overheating", "let it cool down, and hold less load for less time"),
    0x08: ("encoder", "the motor has to be replaced"),
    0x10: ("electrical shock", "check the supply; if it stays, the motor has to be replaced"),
    0x20: ("overload", "free the joint of what it could not move"),
}
_CLEAR: Final = "the torque stays off until its power is cycled"


def code_of(error: int) -> int:
    """The reason a servo refuses a request, without the alert bit; 0 for none."""
    return error & ~ALERT_BIT


def describe_code(error: int) -> str:
    """Why a servo refuses a request, in words."""
    code = code_of(error)
    return _CODES.get(code, f"error code {code}")


def hardware_errors(status: int) -> list[tuple[str, str]]:
    """Name and remedy of each error in register `Hardware_Error_Status`; unknown bits have none."""
    return [words for bit, words in _HARDWARE.items() if status & bit]


def describe_hardware(status: int | None) -> str:
    """The hardware error status in words, with what to do.

    Args:
        status (`int | None`): Register `Hardware_Error_Status`; `None` when it could not be read.
    """
    if not status:
        return f"a hardware error; {_CLEAR}"
    known = hardware_errors(status)
    if not known:
        return f"hardware error status {status:#04x}; {_CLEAR}"
    names = " and ".join(name for name, _ in known)
    return f"{names}: {'; '.join(remedy for _, remedy in known)}; {_CLEAR}"
