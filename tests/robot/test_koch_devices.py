# SPDX-License-Identifier: Apache-2.0
"""The devices this plugin puts in place of LeRobot's, against the simulated buses."""

import contextlib
import json
import logging
import subprocess
import sys
import time

import draccus
import numpy as np
import pytest
from lerobot.robots.config import RobotConfig
from lerobot.robots.koch_follower import KochFollower, KochFollowerConfig
from lerobot.robots.utils import make_robot_from_config
from lerobot.teleoperators.config import TeleoperatorConfig
from lerobot.teleoperators.koch_leader import KochLeader, KochLeaderConfig
from lerobot.teleoperators.utils import make_teleoperator_from_config
from lerobot_env_koch.bench.control import BenchClient
from lerobot_env_koch.bench.faults import FaultPlan
from lerobot_env_koch.bench.hand import SWEEP_S
from lerobot_env_koch.constants import ENVIRONMENT_STATE_NAMES, JOINT_NAMES
from lerobot_env_koch.units import LOWER_RAD, UPPER_RAD, rad_to_ticks
from lerobot_robot_koch import (
    RobustKochFollower,
    RobustKochFollowerConfig,
    RobustKochLeader,
    RobustKochLeaderConfig,
    TrackerConfig,
)
from lerobot_robot_koch.bus import RobustDynamixelBus
from lerobot_robot_koch.tracker import Tracker


@pytest.fixture
def enter_pressed_after_the_sweep(monkeypatch):
    """A user who presses ENTER at once at the first prompt, and after the hand's sweep at the second."""
    monkeypatch.setattr("builtins.input", lambda _="": "")
    asked = []

    def enter_pressed() -> bool:
        asked.append(time.monotonic())
        return asked[-1] - asked[0] > SWEEP_S + 0.3

    monkeypatch.setattr("lerobot.motors.motors_bus.enter_pressed", enter_pressed)


def follower_on(bench, **fields):
    return RobustKochFollower(
        RobustKochFollowerConfig(port=bench.ready()["ports"]["follower"], id="sim", **fields)
    )


def calibrated_follower_on(bench, **fields):
    """A follower whose file and motors already hold the canonical calibration."""
    robot = follower_on(bench, **fields)
    _write_canonical(robot, bench.arms["follower"])
    return robot


def _write_canonical(device, arm):
    from lerobot.motors import MotorCalibration

    low, high = rad_to_ticks(LOWER_RAD), rad_to_ticks(UPPER_RAD)
    for i, (name, servo) in enumerate(zip(JOINT_NAMES, arm.servos, strict=True)):
        full = name in ("shoulder_pan", "wrist_roll")
        mirrored = device.name == "koch_leader" and name == "elbow_flex"
        servo.set("Drive_Mode", int(mirrored))
        servo.set("Homing_Offset", 0)
        middle = arm._mounts[i].to_ticks(float((LOWER_RAD + UPPER_RAD)[i] / 2))
        servo.set("Homing_Offset", 2047 - servo.to_present(middle))
        servo.set("Min_Position_Limit", 0 if full else int(low[i]))
        servo.set("Max_Position_Limit", 4095 if full else int(high[i]))
        device.calibration[name] = MotorCalibration(
            id=i + 1,
            drive_mode=int(mirrored),
            homing_offset=servo.get("Homing_Offset"),
            range_min=servo.get("Min_Position_Limit"),
            range_max=servo.get("Max_Position_Limit"),
        )
    device.bus.calibration = device.calibration


# --- names


def test_the_stock_names_mean_our_classes():
    assert RobotConfig.get_choice_class("koch_follower") is RobustKochFollowerConfig
    assert TeleoperatorConfig.get_choice_class("koch_leader") is RobustKochLeaderConfig
    robot = make_robot_from_config(RobustKochFollowerConfig(port="/dev/none"))
    leader = make_teleoperator_from_config(RobustKochLeaderConfig(port="/dev/none"))
    assert type(robot) is RobustKochFollower
    assert type(leader) is RobustKochLeader
    assert (robot.name, robot.robot_type, leader.name) == ("koch_follower", "koch_follower", "koch_leader")
    assert robot.calibration_dir.name == "koch_follower"
    assert isinstance(robot, KochFollower)
    assert isinstance(leader, KochLeader)


def test_the_stock_classes_stay_reachable():
    assert RobotConfig.get_choice_class("koch_follower_stock") is KochFollowerConfig
    assert TeleoperatorConfig.get_choice_class("koch_leader_stock") is KochLeaderConfig
    assert type(make_robot_from_config(KochFollowerConfig(port="/dev/none"))) is KochFollower
    assert type(make_teleoperator_from_config(KochLeaderConfig(port="/dev/none"))) is KochLeader


def test_config_round_trips_under_the_stock_name():
    config = RobustKochFollowerConfig(
        port="/dev/none", num_read_retries=7, tracker=TrackerConfig(address="tcp://127.0.0.1:5602")
    )
    encoded = draccus.encode(config, RobotConfig)
    assert encoded["type"] == "koch_follower"
    assert draccus.decode(RobotConfig, encoded) == config


def test_import_is_light():
    code = (
        "import sys, lerobot.robots.koch_follower, lerobot.teleoperators.koch_leader\n"
        "before = set(sys.modules)\n"
        "import lerobot_robot_koch\n"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "print(sorted(new & {'zmq', 'mujoco', 'cv2', 'torch', 'rich'}))\n"
        "print('lerobot_robot_koch.bus' in sys.modules)\n"
    )
    # Alone: the other plugins of the group answer for themselves.
    code = "import lerobot_ext.plugins as p\np.load_all = lambda: None\n" + code
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.split("\n")[:2] == ["[]", "False"]


@pytest.mark.parametrize("field", ["num_read_retries", "num_write_retries"])
@pytest.mark.parametrize("config", [RobustKochFollowerConfig, RobustKochLeaderConfig])
def test_negative_retries_are_refused(config, field):
    with pytest.raises(ValueError, match=f"`{field}` \\(-1\\)"):
        config(port="/dev/none", **{field: -1})


# --- calibration


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["follower", "leader"])
def test_calibrating_gives_the_canonical_mapping(start_bench, enter_pressed_after_the_sweep, arm):
    bench = start_bench()
    port = bench.ready()["ports"][arm]
    if arm == "follower":
        device = RobustKochFollower(RobustKochFollowerConfig(port=port, id="sim"))
    else:
        device = RobustKochLeader(RobustKochLeaderConfig(port=port, id="sim"))
    device.connect(calibrate=False)
    device.calibrate()
    device.disconnect()
    found = json.loads(device.calibration_fpath.read_text())
    low, high = rad_to_ticks(LOWER_RAD), rad_to_ticks(UPPER_RAD)
    for i, name in enumerate(JOINT_NAMES):
        expected = (0, 4095) if name in ("shoulder_pan", "wrist_roll") else (low[i], high[i])
        assert abs(found[name]["range_min"] - expected[0]) <= 2, name
        assert abs(found[name]["range_max"] - expected[1]) <= 2, name
        servo = bench.arms[arm].servos[i]
        middle = servo.to_present(bench.arms[arm]._mounts[i].to_ticks(float((LOWER_RAD + UPPER_RAD)[i] / 2)))
        assert abs(middle - 2047) <= 1, name
    assert found["elbow_flex"]["drive_mode"] == (1 if arm == "leader" else 0)


def test_a_stock_calibration_file_is_used_as_it_is(start_bench):
    bench = start_bench()
    ours = calibrated_follower_on(bench)
    ours._save_calibration()
    stock = KochFollower(KochFollowerConfig(port=bench.ready()["ports"]["follower"], id="sim"))
    assert stock.calibration == ours.calibration
    again = follower_on(bench)
    again.connect()  # would ask for ENTER if file and motors disagreed
    assert again.is_calibrated
    again.disconnect()


# --- moving


def test_follower_goes_where_it_is_sent(start_bench):
    bench = start_bench()
    robot = calibrated_follower_on(bench)
    robot.connect()
    goal = {f"{name}.pos": value for name, value in zip(JOINT_NAMES, [20, -30, -20, 60, 10, 80], strict=True)}
    for _ in range(45):
        robot.send_action(goal)
        time.sleep(1 / 30)
    found = robot.get_observation()
    robot.disconnect()
    for name, value in goal.items():
        assert abs(found[name] - value) < 4, (name, found[name], value)


def test_leader_gripper_springs_to_its_open_position(start_bench):
    bench = start_bench(hand=_idle())
    leader = RobustKochLeader(
        RobustKochLeaderConfig(port=bench.ready()["ports"]["leader"], gripper_open_pos=70.0)
    )
    _write_canonical(leader, bench.arms["leader"])
    leader.connect()
    time.sleep(0.6)
    action = leader.get_action()
    leader.disconnect()
    assert abs(action["gripper.pos"] - 70) < 1


def _idle():
    from lerobot_env_koch.bench.hand import HandMode

    return HandMode("idle")


# --- lost packets


def test_a_lost_packet_ends_the_stock_follower(start_bench):
    bench = start_bench(faults=FaultPlan(drop_every=7))
    stock = KochFollower(KochFollowerConfig(port=bench.ready()["ports"]["follower"], id="sim"))
    _write_canonical(stock, bench.arms["follower"])
    with pytest.raises((ConnectionError, RuntimeError)):
        stock.connect(calibrate=False)
    stock.bus.port_handler.closePort()


@pytest.mark.slow
def test_every_seventh_packet_lost_is_survived_for_300_frames(start_bench, caplog):
    bench = start_bench(faults=FaultPlan(drop_every=7))
    robot = calibrated_follower_on(bench)
    caplog.set_level(logging.INFO)
    robot.connect()
    for _ in range(300):
        observation = robot.get_observation()
        robot.send_action(observation)
    counts = robot.bus.counts
    robot.disconnect()
    assert counts.n_failed == 0
    assert counts.n_reads_retried > 50
    assert bench.buses["follower"].faults.counts.dropped > 300
    assert f"{counts.n_reads_retried} of {counts.n_reads} reads" in caplog.text


def test_retries_cover_connecting_and_configuring(start_bench):
    bench = start_bench(faults=FaultPlan(drop=0.15), seed=2)
    robot = calibrated_follower_on(bench, num_read_retries=8, num_write_retries=8)
    robot.connect()
    robot.disconnect()
    assert bench.buses["follower"].faults.counts.dropped > 0
    assert robot.bus.counts.n_writes_retried > 0


def test_damaged_packets_are_asked_again(start_bench):
    bench = start_bench(faults=FaultPlan(crc=0.05))
    robot = calibrated_follower_on(bench)
    robot.connect()
    positions = [robot.get_observation()["elbow_flex.pos"] for _ in range(40)]
    robot.disconnect()
    assert bench.buses["follower"].faults.counts.corrupted > 0
    assert np.ptp(positions) < 2


def test_a_late_answer_is_not_taken_for_the_next_one(start_bench):
    bench = start_bench()
    robot = calibrated_follower_on(bench)
    robot.connect()
    bench.buses["follower"].faults.set_plan(FaultPlan(late_ms=60, late=1))
    with contextlib.suppress(ConnectionError):
        robot.bus.sync_read("Present_Position")
    bench.buses["follower"].faults.set_plan(FaultPlan())
    time.sleep(0.3)  # answers to the abandoned requests arrive now
    servo = bench.arms["follower"].servos[0]
    robot.bus.write("LED", "shoulder_pan", 1)
    assert robot.bus.read("LED", "shoulder_pan") == servo.get("LED") == 1
    assert robot.bus.read("Position_P_Gain", "elbow_flex") == 1500
    robot.disconnect()


def test_giving_up_names_port_tries_time_and_what_to_check(start_bench):
    bench = start_bench()
    robot = calibrated_follower_on(bench, num_read_retries=1)
    robot.connect()
    bench.buses["follower"].faults.set_plan(FaultPlan(drop=1))
    with pytest.raises(ConnectionError) as error:
        robot.get_observation()
    bench.buses["follower"].faults.set_plan(FaultPlan())
    robot.disconnect()
    who = "no answer from id 1 (shoulder_pan"
    for part in ("Present_Position", who, str(robot.bus.port), " ms", "power", "cable", "baud"):
        assert part in str(error.value), part


def test_motor_errors_are_not_retried(start_bench):
    bench = start_bench()
    robot = calibrated_follower_on(bench)
    robot.connect()
    before = robot.bus.counts.n_writes_retried
    with pytest.raises(RuntimeError, match=r"elbow_flex.*locked while the torque is on"):
        robot.bus.write("Homing_Offset", "elbow_flex", 3)  # torque is on
    assert robot.bus.counts.n_writes_retried == before
    robot.disconnect()


# --- what goes wrong when connecting


def test_a_wrong_port_is_one_clear_line(start_bench):
    bench = start_bench()
    wrong = str(bench.config.run_dir / "folower")
    robot = RobustKochFollower(RobustKochFollowerConfig(port=wrong))
    with pytest.raises(ConnectionError) as error:
        robot.connect()
    message = str(error.value)
    assert "\n" not in message
    assert f"{wrong!r} does not exist" in message
    assert bench.ready()["ports"]["follower"] in message
    assert "lerobot-find-port" in message
    assert not robot.is_connected


def test_a_file_is_no_port(tmp_path):
    path = tmp_path / "port"
    path.write_text("")
    robot = RobustKochFollower(RobustKochFollowerConfig(port=str(path)))
    with pytest.raises(ConnectionError, match="not a serial port"):
        robot.connect()


def test_missing_motors_are_named(start_bench):
    bench = start_bench()
    bench.buses["follower"].servos[2:4] = []
    robot = follower_on(bench, num_read_retries=0)
    with pytest.raises(ConnectionError) as error:
        robot.connect()
    message = str(error.value)
    for part in ("id 3 (elbow_flex, xl330-m288 [1200])", "id 4", "1000000 baud", "4 of 6", "power", "cable"):
        assert part in message, part
    assert "id 5" not in message
    assert not robot.is_connected


def test_swapped_ports_are_recognised(start_bench):
    bench = start_bench()
    robot = RobustKochFollower(RobustKochFollowerConfig(port=bench.ready()["ports"]["leader"]))
    with pytest.raises(ConnectionError, match=r"id 1 .*answers as xl330-m077 \[1190\].*swapped"):
        robot.connect()


# --- tracker


def test_tracker_values_follow_the_joints(start_bench):
    bench = start_bench()
    address = bench.ready()["tracker"]["address"]
    robot = calibrated_follower_on(bench, tracker=TrackerConfig(address=address))
    names = [f"{name}.pos" for name in (*JOINT_NAMES, *ENVIRONMENT_STATE_NAMES)]
    assert list(robot.observation_features) == names
    assert list(robot.action_features) == names[:6]
    robot.connect()
    observation = robot.get_observation()
    robot.disconnect()
    assert list(observation) == names
    with BenchClient(bench.control.path) as client:
        state = client.request("status")["environment_state"]
    assert abs(observation["goal_z.pos"] - state["goal_z"]) < 1e-3
    assert not robot.tracker.is_connected


def test_an_observation_with_tracked_objects_can_be_sent_back_as_an_action(start_bench):
    """`lerobot-rollout` returns an arm to its initial position this way."""
    bench = start_bench()
    tracker = TrackerConfig(address=bench.ready()["tracker"]["address"])
    robot = calibrated_follower_on(bench, tracker=tracker)
    robot.connect()
    try:
        observation = robot.get_observation()
        joints = {key: observation[key] for key in robot.action_features}
        assert robot.send_action(observation) == joints
    finally:
        robot.disconnect()


def test_a_missing_tracker_is_named_before_the_arm_moves(start_bench):
    bench = start_bench()
    tracker = TrackerConfig(address="tcp://127.0.0.1:9", timeout_s=0.2)
    robot = follower_on(bench, tracker=tracker)
    with pytest.raises(ConnectionError, match=r"no tracker message from tcp://127.0.0.1:9 within 0.2 s"):
        robot.connect()
    assert bench.buses["follower"].stats.n_instructions == 0


def test_old_and_wrong_tracker_messages_are_refused(start_bench):
    bench = start_bench()
    address = bench.ready()["tracker"]["address"]
    unknown = Tracker(TrackerConfig(address=address, names=["cube_x", "ball_x"]))
    with pytest.raises(ConnectionError, match=r"but not ball_x; correct `tracker.names`"):
        unknown.connect()
    tracker = Tracker(TrackerConfig(address=address, max_age_s=0.2))
    tracker.connect()
    assert set(tracker.read()) == {f"{name}.pos" for name in ENVIRONMENT_STATE_NAMES}
    bench.loop.stop()
    time.sleep(0.4)
    tracker.read() if tracker._socket.poll(0) else None
    time.sleep(0.25)
    with pytest.raises(TimeoutError, match=r"sent nothing for .*max_age_s"):
        tracker.read()
    tracker.close()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"address": "localhost"}, "address"),
        ({"address": "tcp://h:1", "names": []}, "names"),
        ({"address": "tcp://h:1", "names": ["a", "a"]}, "names"),
        ({"address": "tcp://h:1", "max_age_s": 0}, "max_age_s"),
    ],
)
def test_bad_tracker_settings_name_the_field(fields, name):
    with pytest.raises(ValueError, match=f"`tracker.{name}`"):
        TrackerConfig(**fields)


def test_the_bus_needs_no_retry_on_a_clean_line(start_bench):
    bench = start_bench()
    robot = calibrated_follower_on(bench)
    robot.connect()
    assert isinstance(robot.bus, RobustDynamixelBus)
    for _ in range(30):
        robot.get_observation()
    counts = robot.bus.counts
    robot.disconnect()
    # Other work on the test machine may delay an answer; then the bench has counted it.
    delayed = bench.buses["follower"].stats
    assert counts.n_reads_retried <= delayed.n_late + delayed.n_stalls + 1
