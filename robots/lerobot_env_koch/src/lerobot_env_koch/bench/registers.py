# SPDX-License-Identifier: Apache-2.0
"""Control tables of the servos in a Koch: XL430-W250, XL330-M288 and XL330-M077.

Written from the public manuals (https://emanual.robotis.com/docs/en/dxl/x/xl430-w250/, …/xl330-m288/,
…/xl330-m077/): addresses, sizes, access, ranges and factory values. Indirect addresses are left out: LeRobot
does not use them.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

EEPROM_END: Final = 64
"""Below this address is permanent memory: it survives a restart and is locked while torque is on."""

TABLE_SIZE: Final = 147


class Mode(IntEnum):
    """Values of `Operating_Mode`."""

    CURRENT = 0
    VELOCITY = 1
    POSITION = 3
    EXTENDED_POSITION = 4
    CURRENT_POSITION = 5
    PWM = 16


@dataclass(frozen=True, slots=True)
class Register:
    """One entry of a control table.

    Args:
        name (`str`): LeRobot's name for it.
        address (`int`): First byte.
        size (`int`): 1, 2 or 4 bytes, little endian.
        default (`int`): Factory value.
        low (`int`): Smallest value that may be written.
        high (`int`): Largest value that may be written.
        writable (`bool`): Whether the host may write it.
        choices (`frozenset[int]`): When not empty, the only values that may be written.
    """

    name: str
    address: int
    size: int
    default: int
    low: int = 0
    high: int = 0
    writable: bool = True
    choices: frozenset[int] = frozenset()

    @property
    def signed(self) -> bool:
        """Whether the value is two's complement."""
        return self.low < 0

    @property
    def eeprom(self) -> bool:
        """Whether it is permanent memory."""
        return self.address < EEPROM_END

    def allows(self, value: int) -> bool:
        """Whether the servo accepts `value`."""
        return value in self.choices if self.choices else self.low <= value <= self.high


@dataclass(frozen=True)
class ServoModel:
    """One servo type: its name, the number it answers to a PING, and its control table by register name."""

    name: str
    number: int
    firmware: int
    registers: dict[str, Register]

    def by_address(self) -> dict[int, Register]:
        """The control table keyed by first address."""
        return {register.address: register for register in self.registers.values()}


def _read_only(name: str, address: int, size: int, default: int = 0, *, signed: bool = False) -> Register:
    low = -(1 << (8 * size - 1)) if signed else 0
    return Register(name, address, size, default, low=low, high=(1 << (8 * size)) - 1, writable=False)


def _xl(
    name: str,
    number: int,
    *,
    modes: frozenset[int],
    temperature: int,
    voltage: tuple[int, int],
    velocity: tuple[int, int],
    shutdown: int,
    position_gains: tuple[int, int],
    velocity_gains: tuple[int, int],
    has_current: bool,
) -> ServoModel:
    v_low, v_high = voltage
    v_limit, v_max = velocity
    p_gain, d_gain = position_gains
    vp_gain, vi_gain = velocity_gains
    table = [
        _read_only("Model_Number", 0, 2, number),
        _read_only("Model_Information", 2, 4),
        _read_only("Firmware_Version", 6, 1, 52),
        Register("ID", 7, 1, 1, 0, 252),
        Register("Baud_Rate", 8, 1, 1, 0, 7 if not has_current else 6),
        Register("Return_Delay_Time", 9, 1, 250, 0, 254),
        Register("Drive_Mode", 10, 1, 0, 0, 13),
        Register("Operating_Mode", 11, 1, Mode.POSITION, choices=modes),
        Register("Secondary_ID", 12, 1, 255, 0, 255),
        Register("Protocol_Type", 13, 1, 2, choices=frozenset({2, 20, 21, 22} if has_current else {1, 2})),
        Register("Homing_Offset", 20, 4, 0, -1_044_479, 1_044_479),
        Register("Moving_Threshold", 24, 4, 10, 0, v_max),
        Register("Temperature_Limit", 31, 1, temperature, 0, 100),
        Register("Max_Voltage_Limit", 32, 2, v_high, 31, v_high),
        Register("Min_Voltage_Limit", 34, 2, v_low, 31, v_high),
        Register("PWM_Limit", 36, 2, 885, 0, 885),
        Register("Velocity_Limit", 44, 4, v_limit, 0, v_max),
        Register("Max_Position_Limit", 48, 4, 4095, 0, 4095),
        Register("Min_Position_Limit", 52, 4, 0, 0, 4095),
        Register("Shutdown", 63, 1, shutdown, 0, 63),
        Register("Torque_Enable", 64, 1, 0, 0, 1),
        Register("LED", 65, 1, 0, 0, 1),
        Register("Status_Return_Level", 68, 1, 2, 0, 2),
        _read_only("Registered_Instruction", 69, 1),
        _read_only("Hardware_Error_Status", 70, 1),
        Register("Velocity_I_Gain", 76, 2, vi_gain, 0, 16_383),
        Register("Velocity_P_Gain", 78, 2, vp_gain, 0, 16_383),
        Register("Position_D_Gain", 80, 2, d_gain, 0, 16_383),
        Register("Position_I_Gain", 82, 2, 0, 0, 16_383),
        Register("Position_P_Gain", 84, 2, p_gain, 0, 16_383),
        Register("Feedforward_2nd_Gain", 88, 2, 0, 0, 16_383),
        Register("Feedforward_1st_Gain", 90, 2, 0, 0, 16_383),
        Register("Bus_Watchdog", 98, 1, 0, 0, 127),
        Register("Goal_PWM", 100, 2, 885, -885, 885),
        Register("Goal_Velocity", 104, 4, 0, -v_max, v_max),
        Register("Profile_Acceleration", 108, 4, 0, 0, 32_767),
        Register("Profile_Velocity", 112, 4, 0, 0, 32_767),
        Register("Goal_Position", 116, 4, 0, -1_048_575, 1_048_575),
        _read_only("Realtime_Tick", 120, 2),
        _read_only("Moving", 122, 1),
        _read_only("Moving_Status", 123, 1),
        _read_only("Present_PWM", 124, 2, signed=True),
        # The XL430 has no current sensor: the same address holds an estimate of the load in 0.1 %.
        _read_only("Present_Current" if has_current else "Present_Load", 126, 2, signed=True),
        _read_only("Present_Velocity", 128, 4, signed=True),
        _read_only("Present_Position", 132, 4, signed=True),
        _read_only("Velocity_Trajectory", 136, 4, signed=True),
        _read_only("Position_Trajectory", 140, 4, signed=True),
        _read_only("Present_Input_Voltage", 144, 2, 120 if not has_current else 50),
        _read_only("Present_Temperature", 146, 1, 34),
    ]
    if has_current:
        table += [
            Register("Current_Limit", 38, 2, 1750, 0, 1750),
            Register("Goal_Current", 102, 2, 1750, -1750, 1750),
        ]
    return ServoModel(name, number, 52, {register.name: register for register in table})


def _xl330(name: str, number: int, velocity_limit: int) -> ServoModel:
    return _xl(
        name,
        number,
        modes=frozenset(Mode),
        temperature=70,
        voltage=(35, 70),
        velocity=(velocity_limit, 2047),
        shutdown=53,
        position_gains=(400, 0),
        velocity_gains=(180, 1600),
        has_current=True,
    )


XL430_W250: Final = _xl(
    "xl430-w250",
    1060,
    modes=frozenset({Mode.VELOCITY, Mode.POSITION, Mode.EXTENDED_POSITION, Mode.PWM}),
    temperature=72,
    voltage=(60, 140),
    velocity=(265, 1023),
    shutdown=52,
    position_gains=(640, 4000),
    velocity_gains=(100, 1000),
    has_current=False,
)
XL330_M288: Final = _xl330("xl330-m288", 1200, 445)
XL330_M077: Final = _xl330("xl330-m077", 1190, 1620)

MODELS: Final[dict[str, ServoModel]] = {model.name: model for model in (XL430_W250, XL330_M288, XL330_M077)}

BAUD_RATES: Final[dict[int, int]] = {
    0: 9_600,
    1: 57_600,
    2: 115_200,
    3: 1_000_000,
    4: 2_000_000,
    5: 3_000_000,
    6: 4_000_000,
    7: 4_500_000,
}
"""Value of register `Baud_Rate` -> bits per second."""

POSITION_MODES: Final = frozenset({Mode.POSITION, Mode.EXTENDED_POSITION, Mode.CURRENT_POSITION})
