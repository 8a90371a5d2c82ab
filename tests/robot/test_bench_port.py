# SPDX-License-Identifier: Apache-2.0
"""Faults at the byte level: the real dynamixel-sdk and pyserial on a bus that fails."""

import os
import select
import termios
import time
from itertools import pairwise

import dynamixel_sdk as dxl
import pytest
import serial
from lerobot_env_koch.bench.arm import make_follower
from lerobot_env_koch.bench.bus import VirtualBus
from lerobot_env_koch.bench.control import BenchClient
from lerobot_env_koch.bench.fault_injector import FaultInjector
from lerobot_env_koch.bench.faults import FaultPlan
from lerobot_env_koch.bench.latency_timer import LatencyTimer
from lerobot_env_koch.bench.protocol import Instruction, PacketParser, crc16, encode

OK = dxl.COMM_SUCCESS
IDS = [1, 2, 3, 4, 5, 6]
SYNC_READ = encode(254, Instruction.SYNC_READ, bytes([132, 0, 4, 0, *IDS]))
FAST_SYNC_READ = encode(254, Instruction.FAST_SYNC_READ, bytes([132, 0, 4, 0, *IDS]))
PING = encode(1, Instruction.PING)


@pytest.fixture
def line(follower_bus):
    """A raw serial line to the follower's servos, without return delay."""
    arm, bus = follower_bus
    for servo in arm.servos:
        servo.set("Return_Delay_Time", 0)
    with serial.Serial(bus.port, 1_000_000, timeout=0) as port:
        yield port


def receive(port, quiet_s: float = 0.15) -> bytes:
    """Everything that comes until nothing has come for a while."""
    return b"".join(data for _, data in receive_portions(port, quiet_s))


def receive_portions(port, quiet_s: float = 0.15) -> list[tuple[float, bytes]]:
    portions = []
    patience_s = max(quiet_s, 1.0)  # for the first bytes: the bench's thread may have to wait for a core
    while select.select([port], [], [], patience_s)[0]:
        portions.append((time.monotonic(), port.read(4096)))
        patience_s = quiet_s
    return portions


def ids_in(data: bytes) -> list[int]:
    return [packet.id for packet in PacketParser().feed(data)]


def own_delays(bus) -> int:
    return bus.stats.n_late + bus.stats.n_stalls


# --- single faults


def test_a_servo_falls_silent_and_the_others_do_not(line, follower_bus):
    follower_bus[1].set_faults(FaultPlan.parse("silent=3:60000"))
    line.write(SYNC_READ)
    assert ids_in(receive(line)) == [1, 2, 4, 5, 6]
    follower_bus[1].set_faults(FaultPlan.parse("silent=3:60000,chain"))
    line.write(SYNC_READ)
    assert ids_in(receive(line)) == [1, 2]
    line.write(encode(5, Instruction.PING))
    assert ids_in(receive(line)) == [5]


def test_a_lost_part_of_a_fast_answer_ends_it(line, follower_bus):
    line.write(FAST_SYNC_READ)
    whole = receive(line)
    assert crc16(whole[:-2]) == int.from_bytes(whole[-2:], "little")
    follower_bus[1].set_faults(FaultPlan.parse("silent=4:60000"))
    line.write(FAST_SYNC_READ)
    broken = receive(line)
    # Header, then error, id, four bytes and CRC of servos 1 to 3; each CRC covers the packet so far.
    assert len(broken) == 8 + 3 * 8
    assert broken[:7] == whole[:7]
    assert crc16(broken[:-2]) == int.from_bytes(broken[-2:], "little")


def test_a_damaged_part_of_a_fast_answer_spoils_what_follows(line, follower_bus):
    follower_bus[1].set_faults(FaultPlan.parse("crc=1"))
    line.write(FAST_SYNC_READ)
    data = receive(line)
    assert len(data) == 8 + 6 * 8
    ends = range(16, len(data) + 1, 8)
    good = [crc16(data[: end - 2]) == int.from_bytes(data[end - 2 : end], "little") for end in ends]
    assert good[0] is False
    assert follower_bus[1].faults.counts.corrupted == 6


def test_a_missing_servo_ends_a_fast_answer_but_not_a_plain_one(line, follower_bus):
    del follower_bus[1].servos[2]
    line.write(SYNC_READ)
    assert ids_in(receive(line)) == [1, 2, 4, 5, 6]
    line.write(FAST_SYNC_READ)
    assert len(receive(line)) == 8 + 2 * 8


def test_noise_and_broken_packets_leave_the_next_one_readable(line, follower_bus):
    bus = follower_bus[1]
    bus.set_faults(FaultPlan.parse("noise=1"))
    line.write(PING)
    data = receive(line)
    assert len(data) > 14
    assert ids_in(data) == [1]
    bus.set_faults(FaultPlan.parse("truncate=1"))
    line.write(PING)
    assert 0 < len(receive(line)) < 14
    bus.set_faults(FaultPlan())
    line.write(PING)
    assert ids_in(receive(line)) == [1]


def test_a_lost_instruction_does_nothing(sdk, follower_bus):
    port, packets = sdk
    follower_bus[1].set_faults(FaultPlan.parse("txdrop=1"))
    port.setPacketTimeout = lambda _length: port.setPacketTimeoutMillis(60.0)
    assert packets.write1ByteTxRx(port, 1, 65, 1)[0] == dxl.COMM_RX_TIMEOUT
    # A busy bench may come to the instruction only now: it must meet the plan it was sent under.
    _wait_for(lambda: follower_bus[1].faults.counts.instructions_lost == 1)
    follower_bus[1].set_faults(FaultPlan())
    del port.setPacketTimeout
    assert packets.read1ByteTxRx(port, 1, 65) == (0, OK, 0)
    assert follower_bus[1].faults.counts.instructions_lost == 1


def test_a_stall_holds_requests_and_answers_them_in_order(line, follower_bus):
    bus = follower_bus[1]
    bus.set_faults(FaultPlan.parse("stall=250"))
    start = time.monotonic()
    line.write(encode(1, Instruction.WRITE, bytes([65, 0, 1])))
    time.sleep(0.1)
    assert follower_bus[0].servos[0].get("LED") == 0
    line.write(encode(2, Instruction.PING))
    select.select([line], [], [], 5.0)
    assert time.monotonic() - start >= 0.249
    assert ids_in(receive(line)) == [1, 2]
    assert follower_bus[0].servos[0].get("LED") == 1
    assert bus.faults.counts.stalled == 2


def test_setting_other_faults_ends_a_stall(line, follower_bus):
    bus = follower_bus[1]
    bus.set_faults(FaultPlan.parse("stall=60000"))
    line.write(PING)
    time.sleep(0.1)
    bus.set_faults(FaultPlan())
    assert ids_in(receive(line, quiet_s=1.0)) == [1]


@pytest.mark.parametrize("spec", ["stall=120", "late_ms=40@1", "latency_timer=100"])
def test_an_injected_delay_is_not_the_benchs_own(line, follower_bus, spec):
    bus = follower_bus[1]
    bus.set_faults(FaultPlan.parse(spec))
    for _ in range(3):
        line.write(SYNC_READ)
        receive(line, quiet_s=0.4)
    # A busy machine may delay replies of its own, but not to that extent: 18 packets, all of them injected.
    assert bus.stats.n_late < 4
    assert len(bus.report()["late_log"]) == own_delays(bus)


def test_the_benchs_own_delay_is_noted_with_its_time(line, follower_bus):
    arm, bus = follower_bus

    def slow_shaft():
        time.sleep(0.03)
        return type(arm._shaft(0))(0.0)

    arm.servos[0]._shaft = slow_shaft  # the machine takes its time while the servo is read
    before = time.monotonic()
    line.write(encode(1, Instruction.READ, bytes([132, 0, 4, 0])))
    receive(line)
    after = time.monotonic()
    log = bus.report()["late_log"]
    assert bus.stats.n_late >= 1
    assert any(
        before - 0.001 <= at_s <= after + 0.001 and 10 < ms < 1000 * (after - before) for at_s, ms in log
    )


@pytest.mark.parametrize("kind", ["overload", "voltage"])
def test_a_hardware_error_shows_and_drops_the_torque_until_a_reboot(sdk, follower_bus, kind):
    port, packets = sdk
    arm, bus = follower_bus
    shuts_down = kind == "overload"  # the factory value of Shutdown leaves the voltage out
    packets.write1ByteTxRx(port, 2, 64, 1)
    bus.set_faults(FaultPlan.parse(f"alert=2:{kind}"))
    error_bits = {"overload": 32, "voltage": 1}[kind]
    assert packets.read1ByteTxRx(port, 2, 70) == (error_bits, OK, 0x80)
    assert arm.servos[1].torque_enabled is not shuts_down
    comm, error = packets.write1ByteTxRx(port, 2, 64, 1)
    assert (comm, error) == (OK, 0x81 if shuts_down else 0x80)
    bus.set_faults(FaultPlan())
    assert packets.read1ByteTxRx(port, 2, 70)[2] == 0x80  # the servo remembers
    assert packets.reboot(port, 2) == (OK, 0)
    assert packets.write1ByteTxRx(port, 2, 64, 1) == (OK, 0)


# --- the adapter


def test_the_latency_timer_sorts_bytes_into_portions():
    timer = LatencyTimer()
    # 100 bytes at 1 Mbit/s, the last at t = 1.001: 62 leave at once, the rest when the timer has run out.
    portions = timer.feed(bytes(range(100)), 1.001, 1e-5, 0.016)
    (first_s, first), (rest_s, rest) = [*portions, *timer.rest()]
    assert (first, rest) == (bytes(range(62)), bytes(range(62, 100)))
    assert first_s == pytest.approx(1.001 - 38e-5)
    assert rest_s == pytest.approx(first_s + 0.016)
    # A few bytes later wait for the timer's next end, counted from the last portion.
    assert timer.feed(b"abc", rest_s + 0.020, 1e-5, 0.016) == []
    assert timer.rest() == [(pytest.approx(rest_s + 0.032), b"abc")]
    assert timer.rest() == []


def test_answers_arrive_in_the_adapters_portions(line, follower_bus):
    bus = follower_bus[1]
    bus.set_faults(FaultPlan.parse("latency_timer=40"))
    times = []
    for _ in range(8):
        start = time.monotonic()
        line.write(SYNC_READ)
        portions = receive_portions(line, quiet_s=0.3)
        # One answer in nine meets an end of the timer in its middle and comes in three portions.
        if [len(data) for _, data in portions] == [62, 28]:
            (first_s, first), (rest_s, rest) = portions
            assert ids_in(first + rest) == IDS
            times.append((first_s - start, rest_s - start))
    # A machine that is busy can make bytes late, but never early.
    assert min(rest_s for _, rest_s in times) > 0.04
    assert min(first_s for first_s, _ in times) < 0.025
    assert min(rest_s for _, rest_s in times) < 0.075


# --- the cable


def test_a_pulled_cable_fails_as_such_and_a_new_one_works(start_bench):
    bench = start_bench()
    link = bench.ready()["ports"]["follower"]
    port = serial.Serial(link, 1_000_000, timeout=0.2)
    port.write(encode(1, Instruction.WRITE, bytes([64, 0, 1])))
    assert ids_in(receive(port)) == [1]
    with BenchClient(bench.control.path) as client:
        old = bench.buses["follower"].port
        assert client.request("unplug", arm="follower")["plugged"] == {"follower": False, "leader": True}
        assert not os.path.lexists(link)
        assert not os.path.exists(old)
        with pytest.raises(OSError, match=r"Input/output error|write failed"):
            port.write(PING)
        with pytest.raises(serial.SerialException):
            port.read(1)
        with pytest.raises((OSError, termios.error)):
            port.reset_input_buffer()
        with pytest.raises(serial.SerialException):
            serial.Serial(link)
        # The servos keep their power.
        assert client.request("torque")["torque"]["follower"] == [1, 0, 0, 0, 0, 0]
        assert client.request("unplug", arm="follower")["plugged"]["follower"] is False
        assert client.request("status")["buses"]["follower"]["plugged"] is False
        answer = client.request("plug", arm="follower")
        assert answer["plugged"] == {"follower": True, "leader": True}
        assert os.path.realpath(link) == answer["ttys"]["follower"]
    port.close()
    with serial.Serial(link, 1_000_000, timeout=0) as again:
        again.write(encode(1, Instruction.READ, bytes([64, 0, 1, 0])))
        (packet,) = PacketParser().feed(receive(again))
        assert packet.params == b"\x00\x01"  # still under torque


def test_the_plan_pulls_the_cable_once(start_bench):
    bench = start_bench(faults=FaultPlan.parse("unplug@0.1s"))
    link = bench.ready()["ports"]["leader"]
    bus = bench.buses["leader"]
    with serial.Serial(link, 1_000_000) as port:
        port.write(PING)
        _wait_for(lambda: not bus.plugged)
    assert bus.faults.counts.unplugged == 1
    assert bench.buses["follower"].plugged
    bus.plug()
    with serial.Serial(link, 1_000_000, timeout=0) as port:
        port.write(PING)
        assert ids_in(receive(port)) == [1]
    assert bus.plugged


def test_a_bench_stops_with_its_cables_pulled(start_bench):
    bench = start_bench()
    with BenchClient(bench.control.path) as client:
        assert client.request("unplug")["plugged"] == {"follower": False, "leader": False}
        with pytest.raises(RuntimeError, match="`arm`"):
            client.request("plug", arm="third")
    bench.stop()
    assert not os.path.lexists(bench.ready()["ports"]["leader"])


def test_a_bus_that_does_not_run_cannot_be_unplugged():
    bus = VirtualBus("idle", make_follower().servos, FaultInjector(FaultPlan(), seed=0))
    with pytest.raises(RuntimeError, match="does not run"):
        bus.unplug()
    bus.stop()


# --- numbers


def test_bytes_are_counted_both_ways(line, follower_bus):
    bus = follower_bus[1]
    line.write(SYNC_READ)
    data = receive(line)
    report = bus.report()
    assert (report["n_bytes_in"], report["n_bytes_out"]) == (len(SYNC_READ), len(data))
    assert (report["n_instructions"], report["n_status"]) == (1, 6)


def test_late_answers_keep_their_order(line, follower_bus):
    follower_bus[1].set_faults(FaultPlan.parse("late_ms=20@0.5"))
    for _ in range(3):
        line.write(SYNC_READ)
    portions = receive_portions(line, quiet_s=0.6)
    assert ids_in(b"".join(data for _, data in portions)) == IDS * 3
    assert all(a <= b for (a, _), (b, _) in pairwise(portions))


def _wait_for(condition, timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.005)
