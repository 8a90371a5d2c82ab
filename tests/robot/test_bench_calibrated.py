# SPDX-License-Identifier: Apache-2.0
"""`--calibrated`, `--hand clock` and the torque report: what other tests and benchmarks build on."""

import json
import time

import pytest
from lerobot.robots.koch_follower import KochFollower, KochFollowerConfig
from lerobot.teleoperators.koch_leader import KochLeader, KochLeaderConfig
from lerobot_env_koch.bench.assembly import BenchConfig
from lerobot_env_koch.bench.command import stock_commands
from lerobot_env_koch.bench.control import BenchClient
from lerobot_env_koch.bench.hand import HandMode
from lerobot_env_koch.units import rad_to_ticks, ticks_to_rad, units_to_rad


@pytest.fixture
def no_prompt(monkeypatch):
    def prompt(text=""):
        raise AssertionError(f"a device asked: {text}")

    monkeypatch.setattr("builtins.input", prompt)


def devices_on(bench):
    ports = bench.ready()["ports"]
    follower = KochFollower(KochFollowerConfig(port=ports["follower"], id="sim_follower"))
    return follower, KochLeader(KochLeaderConfig(port=ports["leader"], id="sim_leader"))


def test_stock_devices_connect_to_a_calibrated_bench_without_a_prompt(start_bench, no_prompt):
    bench = start_bench(calibrated=True)
    for device, arm in zip(devices_on(bench), ("follower", "leader"), strict=True):
        assert str(device.calibration_fpath) == bench.ready()["calibration_files"][arm]
        device.connect()
        assert device.is_calibrated
        units = list((device.get_observation() if arm == "follower" else device.get_action()).values())
        expected = bench.arms[arm].q_rad
        device.disconnect()
        assert abs(units_to_rad(units) - expected).max() < 0.05


def test_calibrated_servos_agree_with_the_canonical_units(start_bench):
    bench = start_bench(calibrated=True)
    bench.loop.stop()  # at rest, so that two readings agree
    for arm in bench.arms.values():
        shown = [servo.get("Present_Position") for servo in arm.servos]
        assert abs(rad_to_ticks(arm.q_rad) - shown).max() <= 1
        assert abs(ticks_to_rad(shown) - arm.q_rad).max() < 0.003


def test_a_calibrated_start_replaces_what_the_servos_remember(start_bench, tmp_path):
    run_dir = tmp_path / "kept"
    first = start_bench(run_dir=run_dir)
    first.arms["leader"].servos[0].write(20, (77).to_bytes(4, "little"))
    first.stop()
    bench = start_bench(run_dir=run_dir, calibrated=True)
    offset = bench.arms["leader"].servos[0].get("Homing_Offset")
    written = json.loads((tmp_path / "calibration/teleoperators/koch_leader/sim_leader.json").read_text())
    assert offset == written["shoulder_pan"]["homing_offset"] != 77
    bench.stop()
    assert start_bench(run_dir=run_dir).arms["leader"].servos[0].get("Homing_Offset") == offset


def test_commands_of_a_calibrated_bench_do_not_calibrate(start_bench, tmp_path):
    plain = "\n".join(stock_commands(start_bench().ready()))
    assert "lerobot-calibrate" in plain
    assert "calibration_dir" not in plain
    ready = start_bench(calibrated=True, calibration_dir=tmp_path / "elsewhere").ready()
    text = "\n".join(stock_commands(ready))
    assert "lerobot-calibrate" not in text
    assert f"--robot.calibration_dir={tmp_path / 'elsewhere'}/robots/koch_follower" in text
    with pytest.raises(ValueError, match=r"`calibration_dir` .*`calibrated`"):
        BenchConfig(calibration_dir=tmp_path)


def test_the_clock_tells_the_true_age_of_a_value(start_bench, no_prompt):
    bench = start_bench(calibrated=True, hand=HandMode.parse("clock"))
    for device, arm in zip(devices_on(bench), ("follower", "leader"), strict=True):
        device.connect()
        delays = bench.buses[arm].stats
        before = delays.n_late + delays.n_stalls
        start = time.monotonic()
        raw = device.bus.sync_read("Present_Position", normalize=False)
        end = time.monotonic()
        ages_ms = [(int(end * 1000) - value) % 4096 for value in raw.values()]
        assert len(ages_ms) == 6
        if delays.n_late + delays.n_stalls == before:
            assert max(ages_ms) <= (end - start) * 1000 + 1
        assert device.calibration["gripper"].range_min == 0
        assert device.calibration["gripper"].range_max == 4095
        device.disconnect()


def test_the_clock_can_be_switched_off_again(start_bench):
    bench = start_bench(hand=HandMode.parse("clock"))
    with BenchClient(bench.control.path) as client:
        frozen = client.request("status")["follower_rad"]
        assert client.request("status")["follower_rad"] == frozen
        assert client.request("status")["hand"] == "clock"
        client.request("hand", mode="idle")
        end = time.monotonic() + 10
        while client.request("status")["follower_rad"] == frozen:  # now it falls
            assert time.monotonic() < end
            time.sleep(0.05)
    assert not bench.arms["follower"].shows_clock


def test_the_torque_of_each_servo_is_told(start_bench, no_prompt):
    bench = start_bench(calibrated=True)
    follower, leader = devices_on(bench)
    with BenchClient(bench.control.path) as client:
        assert client.request("torque") == {"torque": {"follower": [0] * 6, "leader": [0] * 6}}
        follower.connect()
        leader.connect()
        assert client.request("torque")["torque"] == {"follower": [1] * 6, "leader": [0] * 5 + [1]}
        follower.disconnect()
        leader.disconnect()
        assert client.request("torque") == {"torque": {"follower": [0] * 6, "leader": [0] * 6}}
