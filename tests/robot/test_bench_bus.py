# SPDX-License-Identifier: Apache-2.0
"""The real dynamixel-sdk and pyserial against the simulated bus."""

import time

import dynamixel_sdk as dxl
import pytest
from lerobot_env_koch.bench.faults import FaultPlan

OK = dxl.COMM_SUCCESS
IDS = [1, 2, 3, 4, 5, 6]


def test_ping_names_model_numbers(sdk):
    port, packets = sdk
    numbers = [packets.ping(port, id_)[0] for id_ in IDS]
    assert numbers == [1060, 1060, 1200, 1200, 1200, 1200]
    port.packet_timeout = 0


def test_broadcast_ping_finds_everyone(sdk):
    port, packets = sdk
    found, comm = packets.broadcastPing(port)
    assert comm == OK
    assert sorted(found) == IDS


def test_write_then_read_with_each_register_size(sdk):
    port, packets = sdk
    assert packets.write1ByteTxRx(port, 3, 9, 0) == (OK, 0)
    assert packets.read1ByteTxRx(port, 3, 9) == (0, OK, 0)
    assert packets.write2ByteTxRx(port, 3, 84, 1500) == (OK, 0)
    assert packets.read2ByteTxRx(port, 3, 84) == (1500, OK, 0)
    offset = (-66) & 0xFFFFFFFF
    assert packets.write4ByteTxRx(port, 3, 20, offset) == (OK, 0)
    assert packets.read4ByteTxRx(port, 3, 20) == (offset, OK, 0)


def test_eeprom_lock_comes_back_as_an_access_error(sdk):
    port, packets = sdk
    assert packets.write1ByteTxRx(port, 1, 64, 1) == (OK, 0)
    assert packets.write1ByteTxRx(port, 1, 11, 4) == (OK, 7)


def test_hardware_error_raises_the_alert_bit_until_reboot(sdk, follower_bus):
    port, packets = sdk
    follower_bus[0].servos[1].set("Hardware_Error_Status", 32)
    assert packets.read1ByteTxRx(port, 2, 70) == (32, OK, 0x80)
    assert packets.reboot(port, 2) == (OK, 0)
    assert packets.read1ByteTxRx(port, 2, 70) == (0, OK, 0)


@pytest.mark.parametrize("fast", [False, True], ids=["sync", "fast_sync"])
def test_sync_read_gives_each_servos_position(sdk, follower_bus, fast):
    port, packets = sdk
    group = dxl.GroupSyncRead(port, packets, 132, 4)
    for id_ in IDS:
        group.addParam(id_)
    assert (group.fastSyncRead() if fast else group.txRxPacket()) == OK
    values = [group.getData(id_, 132, 4) for id_ in IDS]
    assert values == [servo.get("Present_Position") for servo in follower_bus[0].servos]


def test_sync_write_reaches_all_and_is_not_answered(sdk, follower_bus):
    port, packets = sdk
    for id_ in IDS:
        packets.write1ByteTxRx(port, id_, 11, 4)
        packets.write1ByteTxRx(port, id_, 64, 1)
    group = dxl.GroupSyncWrite(port, packets, 116, 4)
    for id_ in IDS:
        group.addParam(id_, list((2000 + id_).to_bytes(4, "little")))
    assert group.txPacket() == OK
    assert packets.read4ByteTxRx(port, 6, 116) == (2006, OK, 0)
    assert [servo.get("Goal_Position") for servo in follower_bus[0].servos] == [2000 + i for i in IDS]


def test_stuffed_values_arrive_whole(sdk):
    port, packets = sdk
    packets.write1ByteTxRx(port, 4, 11, 4)
    value = -131_073 & 0xFFFFFFFF
    assert value.to_bytes(4, "little").startswith(b"\xff\xff\xfd")  # must be stuffed both ways
    assert packets.write4ByteTxRx(port, 4, 116, value) == (OK, 0)
    assert packets.read4ByteTxRx(port, 4, 116) == (value, OK, 0)


def test_unknown_instruction_is_answered_as_such(sdk):
    port, packets = sdk
    comm, error = packets.factoryReset(port, 1, 0x02)
    assert (comm, error) == (OK, 2)


def test_servos_are_silent_at_another_baud_rate(sdk):
    port, packets = sdk
    port.setBaudRate(57_600)
    port.setPacketTimeout = lambda _length: port.setPacketTimeoutMillis(60.0)
    assert packets.ping(port, 1)[1] == dxl.COMM_RX_TIMEOUT
    port.setBaudRate(1_000_000)
    assert packets.ping(port, 1)[:2] == (1060, OK)


def test_changing_the_id_and_baud_rate_takes_effect_after_the_answer(sdk):
    port, packets = sdk
    assert packets.write1ByteTxRx(port, 6, 7, 16) == (OK, 0)
    assert packets.ping(port, 16)[:2] == (1200, OK)
    assert packets.write1ByteTxRx(port, 16, 8, 1) == (OK, 0)
    port.setBaudRate(57_600)
    assert packets.ping(port, 16)[:2] == (1200, OK)


def test_status_return_level_silences_writes(sdk):
    port, packets = sdk
    assert packets.write1ByteTxRx(port, 5, 68, 1)[0] in (OK, dxl.COMM_RX_TIMEOUT)
    assert packets.read1ByteTxRx(port, 5, 68) == (1, OK, 0)
    port.setPacketTimeout = lambda _length: port.setPacketTimeoutMillis(60.0)
    assert packets.write1ByteTxRx(port, 5, 65, 1)[0] == dxl.COMM_RX_TIMEOUT


def test_six_answers_take_the_time_of_a_real_bus(sdk):
    port, packets = sdk
    for id_ in IDS:
        packets.write1ByteTxRx(port, id_, 9, 0)
    group = dxl.GroupSyncRead(port, packets, 132, 4)
    for id_ in IDS:
        group.addParam(id_)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        assert group.txRxPacket() == OK
        times.append(time.perf_counter() - start)
    # 6 x (0.5 ms + 15 bytes x 10 us); never faster, whatever the host does.
    assert min(times) > 3.8e-3


def test_the_bus_knows_whether_a_client_is_there(follower_bus):
    _, bus = follower_bus
    port = dxl.PortHandler(bus.port)
    assert port.openPort()
    _wait_for(lambda: bus.is_open)
    port.closePort()
    _wait_for(lambda: not bus.is_open)
    assert bus.stats.n_opened == 1


def test_dropped_and_damaged_packets_look_like_the_sdk_sees_them(sdk, follower_bus):
    port, packets = sdk
    bus = follower_bus[1]
    port.setPacketTimeout = lambda _length: port.setPacketTimeoutMillis(60.0)
    bus.faults.set_plan(FaultPlan(drop=1))
    assert packets.ping(port, 1)[1] == dxl.COMM_RX_TIMEOUT
    _wait_for(lambda: bus.faults.counts.dropped == 1)  # a busy bench may come to the ping only now
    del port.setPacketTimeout
    bus.faults.set_plan(FaultPlan(crc=1))
    assert packets.ping(port, 1)[1] == dxl.COMM_RX_CORRUPT
    assert (bus.faults.counts.dropped, bus.faults.counts.corrupted) == (1, 1)


def _wait_for(condition, timeout_s: float = 2.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.005)
