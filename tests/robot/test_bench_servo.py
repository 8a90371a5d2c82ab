# SPDX-License-Identifier: Apache-2.0
import pytest
from lerobot.motors.dynamixel.tables import MODEL_CONTROL_TABLE, MODEL_NUMBER_TABLE
from lerobot_env_koch.bench.protocol import ErrorCode
from lerobot_env_koch.bench.registers import MODELS, XL330_M077, XL330_M288, XL430_W250, Mode
from lerobot_env_koch.bench.servo import Servo, Shaft


@pytest.fixture
def servo() -> Servo:
    return Servo(XL330_M288, 3, lambda: Shaft(1000.0, 50.0, 0.1))


def write(servo: Servo, name: str, value: int) -> ErrorCode:
    register = servo.model.registers[name]
    return servo.write(register.address, value.to_bytes(register.size, "little", signed=value < 0))


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda m: m.name)
def test_control_table_agrees_with_lerobots(model):
    table = MODEL_CONTROL_TABLE[model.name]
    for register in model.registers.values():
        name = "Present_Current" if register.name == "Present_Load" else register.name
        assert table[name] == (register.address, register.size), register.name
    assert model.number == MODEL_NUMBER_TABLE[model.name]


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda m: m.name)
def test_factory_values_are_allowed_and_registers_do_not_overlap(model):
    used: set[int] = set()
    for register in model.registers.values():
        cells = set(range(register.address, register.address + register.size))
        assert not cells & used, register.name
        used |= cells
        if register.writable:
            assert register.allows(register.default), register.name


def test_eeprom_is_locked_while_torque_is_on(servo):
    assert write(servo, "Homing_Offset", -66) == ErrorCode.NONE
    assert write(servo, "Torque_Enable", 1) == ErrorCode.NONE
    assert write(servo, "Homing_Offset", 5) == ErrorCode.ACCESS
    assert servo.get("Homing_Offset") == -66
    assert write(servo, "Goal_Position", 5) == ErrorCode.NONE
    assert write(servo, "Torque_Enable", 0) == ErrorCode.NONE
    assert write(servo, "Homing_Offset", 5) == ErrorCode.NONE


def test_read_only_and_unknown_addresses_are_refused(servo):
    assert write(servo, "Present_Position", 1) == ErrorCode.ACCESS
    assert servo.write(15, b"\x00") == ErrorCode.ACCESS
    assert servo.write(116, b"\x00\x00") == ErrorCode.DATA_LENGTH
    assert servo.read(140, 20) == (ErrorCode.DATA_RANGE, b"")


def test_values_out_of_range_are_refused(servo):
    assert write(servo, "Operating_Mode", 2) == ErrorCode.DATA_RANGE
    assert write(servo, "Min_Position_Limit", 4096) == ErrorCode.DATA_RANGE
    assert write(servo, "Homing_Offset", 1_044_480) == ErrorCode.DATA_RANGE


def test_limits_set_by_other_registers(servo):
    write(servo, "Current_Limit", 500)
    assert write(servo, "Goal_Current", -501) == ErrorCode.DATA_LIMIT
    assert write(servo, "Goal_Current", -500) == ErrorCode.NONE
    write(servo, "Max_Position_Limit", 3000)
    assert servo.get("Operating_Mode") == Mode.POSITION
    assert write(servo, "Goal_Position", 3001) == ErrorCode.DATA_LIMIT
    write(servo, "Operating_Mode", Mode.EXTENDED_POSITION)
    assert write(servo, "Goal_Position", 5000) == ErrorCode.NONE


def test_a_block_write_is_all_or_nothing(servo):
    before = servo.get("Max_Position_Limit")
    bad_min = (3000).to_bytes(4, "little") + (9999).to_bytes(4, "little")
    assert servo.write(48, bad_min) == ErrorCode.DATA_RANGE
    assert servo.get("Max_Position_Limit") == before


@pytest.mark.parametrize(("drive_mode", "offset"), [(0, 0), (0, -250), (1, 0), (1, 3876)])
def test_present_position_follows_offset_and_direction(servo, drive_mode, offset):
    write(servo, "Drive_Mode", drive_mode)
    write(servo, "Homing_Offset", offset)
    expected = (-1000 if drive_mode else 1000) + offset
    assert servo.get("Present_Position") == expected
    error, data = servo.read(132, 4)
    assert (error, int.from_bytes(data, "little", signed=True)) == (ErrorCode.NONE, expected)
    assert servo.to_shaft(expected) == 1000
    assert (servo.get("Present_Velocity") < 0) == bool(drive_mode)


def test_torque_on_starts_where_the_shaft_stands(servo):
    write(servo, "Homing_Offset", 47)
    write(servo, "Torque_Enable", 1)
    assert servo.get("Goal_Position") == 1047
    assert servo.goal_ticks == 1000


def test_only_position_modes_drive(servo):
    write(servo, "Operating_Mode", Mode.VELOCITY)
    write(servo, "Torque_Enable", 1)
    assert servo.goal_ticks is None
    write(servo, "Torque_Enable", 0)
    write(servo, "Operating_Mode", Mode.CURRENT_POSITION)
    write(servo, "Torque_Enable", 1)
    assert servo.goal_ticks == 1000


def test_xl430_has_no_current_mode():
    servo = Servo(XL430_W250, 1, lambda: Shaft(0.0))
    assert write(servo, "Operating_Mode", Mode.CURRENT_POSITION) == ErrorCode.DATA_RANGE
    assert "Goal_Current" not in servo.model.registers


def test_changing_the_mode_resets_the_position_gains(servo):
    write(servo, "Position_P_Gain", 1500)
    write(servo, "Operating_Mode", Mode.EXTENDED_POSITION)
    assert servo.get("Position_P_Gain") == 400


def test_reboot_clears_error_torque_and_ram_but_not_eeprom(servo):
    write(servo, "Homing_Offset", 12)
    write(servo, "Torque_Enable", 1)
    servo.set("Hardware_Error_Status", 32)
    assert servo.alert == ErrorCode.ALERT
    servo.reboot()
    assert (servo.alert, servo.torque_enabled, servo.get("Homing_Offset")) == (ErrorCode.NONE, False, 12)


@pytest.mark.parametrize("restart", [Servo.reboot, Servo.clear_multi_turn])
def test_whole_turns_are_forgotten_at_a_restart(restart):
    at = [5000.0]
    servo = Servo(XL330_M288, 3, lambda: Shaft(at[0]))
    write(servo, "Homing_Offset", 10)
    assert servo.get("Present_Position") == 5010
    restart(servo)
    assert servo.get("Present_Position") == 5000 - 4096 + 10
    at[0] = 3000.0  # back over the end of the turn: counted from where it started
    assert servo.get("Present_Position") == 3000 - 4096 + 10
    write(servo, "Torque_Enable", 1)
    assert servo.goal_ticks == 3000
    assert servo.clear_multi_turn() == ErrorCode.RESULT_FAIL


def test_an_error_that_shutdown_names_drops_the_torque(servo):
    write(servo, "Torque_Enable", 1)
    servo.raise_error(0x02)
    assert (servo.alert, servo.torque_enabled) == (ErrorCode.ALERT, True)
    servo.raise_error(0x20)
    assert (servo.get("Hardware_Error_Status"), servo.torque_enabled) == (0x22, False)
    assert write(servo, "Torque_Enable", 1) == ErrorCode.RESULT_FAIL
    assert write(servo, "LED", 1) == ErrorCode.NONE


def test_registered_write_waits_for_action(servo):
    assert servo.action() == ErrorCode.RESULT_FAIL
    servo.register_write(65, b"\x01")
    assert servo.get("LED") == 0
    assert servo.action() == ErrorCode.NONE
    assert servo.get("LED") == 1


def test_eeprom_survives_a_restart(servo):
    write(servo, "Homing_Offset", -500)
    write(servo, "Drive_Mode", 1)
    again = Servo(XL330_M077, 3, lambda: Shaft(0.0))
    again.load_eeprom(servo.eeprom() | {"Nonsense": 3, "Operating_Mode": 99})
    assert (again.get("Homing_Offset"), again.get("Drive_Mode"), again.get("Operating_Mode")) == (-500, 1, 3)
