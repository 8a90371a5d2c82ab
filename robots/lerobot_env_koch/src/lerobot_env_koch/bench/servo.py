# SPDX-License-Identifier: Apache-2.0
"""One simulated Dynamixel: a control table with the rules a real servo enforces on it.

Modelled: access rights, value ranges, limits, the EEPROM lock under torque, homing offset, drive mode,
operating modes that move to a position, two's complement, hardware error status with its alert bit and
shutdown, reboot, loss of whole turns at a reboot, status return level. Accepted and stored without effect
on the motion: PID gains, profiles, velocity/current/PWM modes, the watchdog.
"""

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from lerobot_env_koch.bench.protocol import ErrorCode
from lerobot_env_koch.bench.registers import (
    BAUD_RATES,
    POSITION_MODES,
    TABLE_SIZE,
    Mode,
    Register,
    ServoModel,
)

TICKS_PER_TURN: Final = 4096
_DYNAMIC_FROM: Final = 120  # address of the first register that the physics changes
_VELOCITY_UNIT: Final = 0.229 / 60 * TICKS_PER_TURN  # ticks/s in one unit of Present_Velocity (0.229 rev/min)
_MOVING_TICKS_PER_S: Final = 10 * _VELOCITY_UNIT


class Shaft(NamedTuple):
    """What the physics says about a servo's output shaft, in the servo's own frame.

    Args:
        ticks (`float`): Position in encoder ticks before homing offset and drive mode; more than one turn is
            possible.
        ticks_per_s (`float`): Speed.
        current_a (`float`): Motor current, signed like the position.
    """

    ticks: float
    ticks_per_s: float = 0.0
    current_a: float = 0.0


class Servo:
    """A servo on the bus.

    The bus thread reads and writes it, the physics reads `goal_ticks` and `torque_enabled`.

    Args:
        model (`ServoModel`): Its type.
        id_ (`int`): Its bus id.
        shaft (`Callable[[], Shaft]`): Says where the output shaft is now. Called from the bus thread; must
            not block.
        on_write (`Callable[[Servo, Register, int], None]`, *optional*): Told of each accepted write, from the
            bus thread.

    Attributes:
        torque_enabled (`bool`): Register `Torque_Enable`.
        goal_ticks (`float | None`): Where the shaft is driven to, in the frame of `Shaft.ticks`; `None` when
            the torque is off or the operating mode is no position mode.
        n_eeprom_writes (`int`): Accepted writes to permanent memory, so that its owner knows when to save it.
    """

    def __init__(
        self,
        model: ServoModel,
        id_: int,
        shaft: Callable[[], Shaft],
        on_write: "Callable[[Servo, Register, int], None] | None" = None,
    ) -> None:
        self.model = model
        self.goal_ticks: float | None = None
        self.torque_enabled = False
        self.n_eeprom_writes = 0
        self._shaft = shaft
        self._turn_ticks = 0
        self._on_write = on_write
        self._registers = model.registers
        self._by_address = model.by_address()
        self._memory = bytearray(TABLE_SIZE)
        self._pending: tuple[int, bytes] | None = None
        for register in self._registers.values():
            self._store(register, register.default)
        self._store(self._registers["ID"], id_)
        self._store(self._registers["Baud_Rate"], 3)

    # --- registers by name, for the bench itself

    @property
    def id(self) -> int:
        """Bus id."""
        return self._memory[7]

    @property
    def baud_rate(self) -> int:
        """Bits per second at which it listens and answers."""
        return BAUD_RATES[self._memory[8]]

    @property
    def return_delay_s(self) -> float:
        """How long it waits before it answers (register `Return_Delay_Time`, 2 µs a unit)."""
        return self._memory[9] * 2e-6

    @property
    def status_return_level(self) -> int:
        """0: answers pings only, 1: pings and reads, 2: everything."""
        return self._memory[68]

    @property
    def alert(self) -> ErrorCode:
        """`ErrorCode.ALERT` while the hardware error status is not zero."""
        return ErrorCode.ALERT if self._memory[70] else ErrorCode.NONE

    def get(self, name: str) -> int:
        """Value of a register, by LeRobot's name."""
        self._refresh()
        return self._load(self._registers[name])

    def set(self, name: str, value: int) -> None:
        """Put a value into a register, past access rights and limits, as the servo's own firmware does."""
        self._store(self._registers[name], value)
        self._apply()

    def eeprom(self) -> dict[str, int]:
        """Permanent memory that the host may have changed, by register name."""
        return {r.name: self._load(r) for r in self._registers.values() if r.eeprom and r.writable}

    def load_eeprom(self, values: dict[str, int]) -> None:
        """Restore what `eeprom` returned; names and values this model does not have are ignored."""
        for name, value in values.items():
            register = self._registers.get(name)
            if register is not None and register.eeprom and register.writable and register.allows(value):
                self._store(register, value)
        self._apply()

    # --- what the bus asks for

    def ping(self) -> bytes:
        """Parameters of the answer to a PING: model number and firmware."""
        return self.model.number.to_bytes(2, "little") + bytes([self.model.firmware])

    def read(self, address: int, length: int) -> tuple[ErrorCode, bytes]:
        """Read `length` bytes; gaps of the control table read as zero.

        Returns:
            `tuple[ErrorCode, bytes]`: `DATA_RANGE` and nothing if the request leaves the control table.
        """
        if length == 0 or address + length > TABLE_SIZE:
            return ErrorCode.DATA_RANGE, b""
        if address + length > _DYNAMIC_FROM:
            self._refresh()
        return ErrorCode.NONE, bytes(self._memory[address : address + length])

    def write(self, address: int, data: bytes) -> ErrorCode:
        """Write one or more whole registers; nothing is written unless all of them are accepted."""
        accepted: list[tuple[Register, int]] = []
        while data:
            register = self._by_address.get(address)
            if register is None:
                return ErrorCode.ACCESS
            if len(data) < register.size:
                return ErrorCode.DATA_LENGTH
            value = int.from_bytes(data[: register.size], "little", signed=register.signed)
            error = self._check(register, value)
            if error:
                return error
            accepted.append((register, value))
            data = data[register.size :]
            address += register.size
        for register, value in accepted:
            self._accept(register, value)
        return ErrorCode.NONE

    def register_write(self, address: int, data: bytes) -> ErrorCode:
        """Keep a write for the next ACTION."""
        self._pending = (address, data)
        self._memory[69] = 1
        return ErrorCode.NONE

    def action(self) -> ErrorCode:
        """Carry out the write kept by `register_write`."""
        if self._pending is None:
            return ErrorCode.RESULT_FAIL
        address, data = self._pending
        self._pending = None
        self._memory[69] = 0
        return self.write(address, data)

    def raise_error(self, bits: int) -> None:
        """Report a hardware error; those that register `Shutdown` names drop the torque until a reboot.

        Args:
            bits (`int`): Bits to set in `Hardware_Error_Status`.
        """
        self._store(self._registers["Hardware_Error_Status"], self._memory[70] | bits)
        if self._is_shut_down:
            self._store(self._registers["Torque_Enable"], 0)
        self._apply()

    @property
    def _is_shut_down(self) -> bool:
        return bool(self._memory[70] & self._load(self._registers["Shutdown"]))

    def reboot(self) -> None:
        """Clear the hardware error, drop the torque, reset RAM registers, forget whole turns."""
        for register in self._registers.values():
            if not register.eeprom:
                self._store(register, register.default)
        self._pending = None
        self._forget_turns()
        self._apply()

    def clear_multi_turn(self) -> ErrorCode:
        """Carry out CLEAR while torque is off: forget whole turns."""
        if self.torque_enabled:
            return ErrorCode.RESULT_FAIL
        self._forget_turns()
        return ErrorCode.NONE

    def _forget_turns(self) -> None:
        """The encoder is absolute within a turn only; turns are counted from the last start."""
        self._turn_ticks = -TICKS_PER_TURN * math.floor(self._shaft().ticks / TICKS_PER_TURN)

    # --- frames: Present_Position = direction * (shaft, less forgotten turns) + homing offset

    def to_present(self, ticks: float) -> int:
        """What `Present_Position` shows when the shaft stands at `ticks`."""
        direction = -1 if self._load(self._registers["Drive_Mode"]) & 1 else 1
        return direction * round(ticks + self._turn_ticks) + self._load(self._registers["Homing_Offset"])

    def to_shaft(self, present: int) -> float:
        """The inverse of `to_present`."""
        direction = -1 if self._load(self._registers["Drive_Mode"]) & 1 else 1
        offset = self._load(self._registers["Homing_Offset"])
        return float(direction * (present - offset) - self._turn_ticks)

    # --- inside

    def _check(self, register: Register, value: int) -> ErrorCode:
        if not register.writable or (register.eeprom and self.torque_enabled):
            return ErrorCode.ACCESS
        if not register.allows(value):
            return ErrorCode.DATA_RANGE
        if register.name == "Torque_Enable" and value and self._is_shut_down:
            return ErrorCode.RESULT_FAIL
        return self._check_limits(register.name, value)

    def _check_limits(self, name: str, value: int) -> ErrorCode:
        """Limits that other registers of the same servo set."""
        value_of = {
            "Goal_PWM": "PWM_Limit",
            "Goal_Current": "Current_Limit",
            "Goal_Velocity": "Velocity_Limit",
        }
        if name in value_of and abs(value) > self._load(self._registers[value_of[name]]):
            return ErrorCode.DATA_LIMIT
        if name == "Goal_Position" and self._load(self._registers["Operating_Mode"]) == Mode.POSITION:
            low = self._load(self._registers["Min_Position_Limit"])
            high = self._load(self._registers["Max_Position_Limit"])
            if not low <= value <= high:
                return ErrorCode.DATA_LIMIT
        return ErrorCode.NONE

    def _accept(self, register: Register, value: int) -> None:
        was_on = self.torque_enabled
        self._store(register, value)
        if register.eeprom:
            self.n_eeprom_writes += 1
        if register.name == "Operating_Mode":
            for name in ("Position_P_Gain", "Position_I_Gain", "Position_D_Gain"):
                self._store(self._registers[name], self._registers[name].default)
        if register.name == "Torque_Enable" and value and not was_on:
            # A servo starts from where it stands, never with a jump to an old goal.
            self._store(self._registers["Goal_Position"], self.to_present(self._shaft().ticks))
        self._apply()
        if self._on_write is not None:
            self._on_write(self, register, value)

    def _apply(self) -> None:
        """Publish torque and goal to the physics after a register changed."""
        torque = bool(self._memory[64])
        drives = torque and self._memory[11] in POSITION_MODES
        self.goal_ticks = self.to_shaft(self._load(self._registers["Goal_Position"])) if drives else None
        self.torque_enabled = torque

    def _refresh(self) -> None:
        """Bring the registers that the physics changes up to date."""
        shaft = self._shaft()
        direction = -1 if self._memory[10] & 1 else 1
        position = self.to_present(shaft.ticks)
        velocity = direction * shaft.ticks_per_s
        table = self._registers
        self._store(table["Realtime_Tick"], int(time.monotonic() * 1000) % 32_768)
        self._store(table["Moving"], int(abs(velocity) > _MOVING_TICKS_PER_S))
        self._store(table["Present_Velocity"], round(velocity / _VELOCITY_UNIT))
        self._store(table["Present_Position"], position)
        self._store(table["Position_Trajectory"], self._load(table["Goal_Position"]))
        if "Present_Current" in table:
            self._store(table["Present_Current"], round(direction * shaft.current_a * 1000))
        else:
            # Load is shown in 0.1 % of the stall current, 1.4 A at 12 V.
            self._store(table["Present_Load"], round(direction * shaft.current_a / 1.4 * 1000))

    def _load(self, register: Register) -> int:
        raw = self._memory[register.address : register.address + register.size]
        return int.from_bytes(raw, "little", signed=register.signed)

    def _store(self, register: Register, value: int) -> None:
        raw = int(value).to_bytes(register.size, "little", signed=register.signed)
        self._memory[register.address : register.address + register.size] = raw
