# SPDX-License-Identifier: Apache-2.0
"""The driver on a bad line, against simulated servos: late answers, refusals, torque, Fast Sync Read."""

import logging

import pytest
from lerobot.motors import Motor, MotorNormMode
from lerobot_env_koch.bench.faults import FaultPlan
from lerobot_env_koch.bench.protocol import ErrorCode, Instruction
from lerobot_robot_koch.bus import RobustDynamixelBus
from lerobot_robot_koch.config_bus import JOINTS, BusFields
from lerobot_robot_koch.errors import BusLostError, MotorAlertError
from lerobot_robot_koch.stale_values import JOURNAL

MODELS = ["xl430-w250"] * 2 + ["xl330-m288"] * 4


@pytest.fixture
def connect(follower_bus):
    """Opens the driver on the six servos; `connect.arm` and `connect.line` are the simulated side."""
    arm, line = follower_bus
    opened = []

    def open_bus(**fields) -> RobustDynamixelBus:
        motors = {
            name: Motor(i + 1, model, MotorNormMode.DEGREES)
            for i, (name, model) in enumerate(zip(JOINTS, MODELS, strict=True))
        }
        bus = RobustDynamixelBus(line.port, motors, fields=BusFields(**fields), device="koch_follower")
        opened.append(bus)
        bus.connect()
        bus.configure_motors()  # no return delay, as when a session runs
        return bus

    open_bus.arm, open_bus.line = arm, line  # type: ignore[attr-defined]
    yield open_bus
    line.set_faults(FaultPlan())
    for bus in opened:
        if bus.is_connected:
            bus.disconnect()


def faults(connect, text: str) -> None:
    connect.line.set_faults(FaultPlan.parse(text))


# --- answers that come too late


def test_a_late_answer_never_passes_for_that_of_another_register(connect):
    """They have the same length: only the number of bytes asked for tells them apart."""
    bus = connect(give_up_ms=3000)
    registers = {"Homing_Offset": 11, "Max_Position_Limit": 3000, "Min_Position_Limit": 500}
    for servo in connect.arm.servos:
        for name, value in registers.items():
            servo.set(name, value + servo.id)
    faults(connect, "late_ms=15@0.2")
    for _ in range(25):
        for name, value in registers.items():
            found = bus.sync_read(name, normalize=False)
            assert found == {joint: value + i + 1 for i, joint in enumerate(JOINTS)}, name
    assert connect.line.faults.counts.delayed > 20
    assert bus.link.counts.n_foreign > 0


def test_a_write_is_done_when_it_returns_even_if_acknowledgements_are_late(connect):
    bus = connect(give_up_ms=3000)
    faults(connect, "late_ms=15@0.3,txdrop=0.2")
    for n in range(40):
        joint = n % 6
        bus.write("Position_P_Gain", JOINTS[joint], 400 + n)
        assert connect.arm.servos[joint].get("Position_P_Gain") == 400 + n
    assert connect.line.faults.counts.instructions_lost > 0


def test_servos_that_refuse_longer_reads_are_read_plainly(connect, monkeypatch):
    servo = type(connect.arm.servos[0])
    whole = servo.read
    refused = (ErrorCode.ACCESS, b"")
    monkeypatch.setattr(servo, "read", lambda self, a, n: whole(self, a, n) if n <= 4 else refused)
    bus = connect()
    assert not bus.link.tags_reads
    assert set(bus.sync_read("Present_Position", normalize=False)) == set(JOINTS)


# --- values in the control loop


def test_an_old_value_is_used_and_noted_while_it_is_young_enough(connect):
    bus = connect()
    with bus.tolerating_loss():
        before = bus.sync_read("Present_Position", normalize=False)
        JOURNAL.take()
        faults(connect, "silent=3:60")
        assert bus.sync_read("Present_Position", normalize=False) == before
    stale = JOURNAL.take()
    # A busy machine may lose more in that time than the silent one.
    assert ("koch_follower", "elbow_flex") in {(value.device, value.motor) for value in stale}
    assert all(0 < value.age_ms <= 200 for value in stale)
    assert bus.counts.n_stale == len(stale)
    assert f"{len(stale)} values were old when used" in str(bus.counts)


def test_without_leave_no_old_value_is_used(connect):
    """Homing and calibration need the truth."""
    bus = connect()
    with bus.tolerating_loss():
        bus.sync_read("Present_Position", normalize=False)
    faults(connect, "silent=3:60")
    bus.sync_read("Present_Position", normalize=False)
    assert bus.counts.n_stale == 0
    assert connect.line.faults.counts.silenced > 0


def test_writing_permanent_memory_forgets_what_positions_were(connect):
    bus = connect(max_stale_ms=10_000)
    with bus.tolerating_loss():
        bus.sync_read("Present_Position", normalize=False)
        bus.write("Homing_Offset", "elbow_flex", 500)
        faults(connect, "silent=3:100")
        found = bus.sync_read("Present_Position", normalize=False)
    assert found["elbow_flex"] == connect.arm.servos[2].get("Present_Position")
    assert bus.counts.n_stale == 0


# --- what motors report


def test_a_refused_value_is_told_apart_from_a_lost_packet(connect):
    bus = connect()
    with pytest.raises(MotorAlertError, match=r"Operating_Mode.*id 3 \(elbow_flex.*out of range"):
        bus.write("Operating_Mode", "elbow_flex", 99)
    assert bus.counts.n_writes_retried == 0


def test_an_overloaded_motor_is_named_with_the_remedy(connect, caplog):
    bus = connect()
    faults(connect, "alert=3:overload")
    with pytest.raises(MotorAlertError, match=r"elbow_flex.*overload.*free the joint.*power is cycled"):
        bus.write("Position_P_Gain", "elbow_flex", 800)
    with bus.tolerating_loss():
        for _ in range(3):
            bus.sync_read("Present_Position", normalize=False)
    assert caplog.text.count("overload") == 1
    assert bus.counts.n_alerts == 1
    bus.disable_torque()  # an alert is no reason not to let go
    assert bus.ping("elbow_flex") == 1200


# --- torque


def test_torque_off_reaches_every_servo_though_nobody_is_heard(connect, caplog):
    bus = connect()
    bus.enable_torque()
    faults(connect, "drop=1")
    bus.disconnect()
    assert not any(servo.torque_enabled for servo in connect.arm.servos)
    assert caplog.text.count("TORQUE STATE UNKNOWN") == 1
    assert not bus.is_connected


def test_one_silent_servo_keeps_no_other_one_stiff(connect, caplog):
    bus = connect()
    bus.enable_torque()
    faults(connect, "silent=1:5000")
    bus.disconnect()
    assert not any(servo.torque_enabled for servo in connect.arm.servos[1:])
    message = next(r.getMessage() for r in caplog.records if "UNKNOWN" in r.getMessage())
    assert "id 1 (shoulder_pan" in message
    assert "id 2" not in message
    assert "lerobot-ext relax --port" in message


def test_confirmed_torque_off_says_nothing(connect, caplog):
    bus = connect()
    bus.enable_torque()
    faults(connect, "drop=0.1")
    bus.disconnect()
    assert not any(servo.torque_enabled for servo in connect.arm.servos)
    assert "UNKNOWN" not in caplog.text


def test_keep_torque_leaves_it_on(connect):
    bus = connect()
    bus.enable_torque()
    bus.keep_torque = True
    bus.disconnect()
    assert all(servo.torque_enabled for servo in connect.arm.servos)


# --- Fast Sync Read


def test_fast_sync_read_is_used_when_every_servo_understands_it(connect):
    bus = connect()
    assert bus.uses_fast_sync_read
    before = connect.line.stats.n_bytes_out
    with bus.tolerating_loss():
        bus.sync_read("Present_Position", normalize=False)
    # One packet, 8 bytes around 6 parts of at most 11, not six of at least 15.
    assert connect.line.stats.n_bytes_out - before <= 8 + 6 * 11 < 6 * 15


def test_it_can_be_switched_off(connect):
    assert not connect(fast_sync_read=False).uses_fast_sync_read


def test_without_it_the_driver_reads_as_before(connect, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    ignore_fast_sync_read(monkeypatch, connect.line)
    bus = connect()
    assert not bus.uses_fast_sync_read
    assert "no Fast Sync Read" in caplog.text
    with bus.tolerating_loss():
        assert set(bus.sync_read("Present_Position", normalize=False)) == set(JOINTS)


def test_it_is_left_when_it_stops_working(connect, monkeypatch, caplog):
    bus = connect()
    ignore_fast_sync_read(monkeypatch, connect.line)
    with bus.tolerating_loss():
        for _ in range(25):
            assert set(bus.sync_read("Present_Position", normalize=False)) == set(JOINTS)
    assert not bus.uses_fast_sync_read
    assert "going on without it" in caplog.text


def ignore_fast_sync_read(monkeypatch, line) -> None:
    """Servos with old firmware: silence."""
    answer = line._answer

    def old_firmware(packet, *args):
        if packet.instruction != Instruction.FAST_SYNC_READ:
            answer(packet, *args)

    monkeypatch.setattr(line, "_answer", old_firmware)


# --- giving up


def test_giving_up_takes_at_least_the_configured_time(connect):
    bus = connect(give_up_ms=100, max_stale_ms=20)
    with bus.tolerating_loss():
        bus.sync_read("Present_Position", normalize=False)
        faults(connect, "drop=1")
        with pytest.raises(BusLostError, match=r"no answer from id 1 .*tries in the last request, \d+ ms"):
            read_on(bus)
    assert bus.counts.n_failed == 1


def test_a_missing_motor_is_found_by_the_handshake(connect):
    faults(connect, "silent=5:60000")
    with pytest.raises(ConnectionError, match=r"id 5 \(wrist_roll.*does not answer \(5 of 6 motors answer"):
        connect(give_up_ms=50)


def read_on(bus: RobustDynamixelBus) -> None:
    for _ in range(100):
        bus.sync_read("Present_Position", normalize=False)
