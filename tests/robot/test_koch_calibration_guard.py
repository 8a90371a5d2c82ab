# SPDX-License-Identifier: Apache-2.0
"""The calibration check and the joints' directions, as the devices use them on the bench."""

import json
import logging
import time
from dataclasses import asdict, replace

import pytest
from lerobot.motors import MotorCalibration
from lerobot.robots.koch_follower import KochFollower, KochFollowerConfig
from lerobot.teleoperators.koch_leader import KochLeader, KochLeaderConfig
from lerobot_env_koch.bench.hand import SWEEP_S, HandMode
from lerobot_env_koch.constants import FULL_TURN_JOINTS, JOINT_NAMES
from lerobot_env_koch.units import LOWER_RAD, MID_RAD, UPPER_RAD, rad_to_ticks
from lerobot_robot_koch import (
    RobustKochFollower,
    RobustKochFollowerConfig,
    RobustKochLeader,
    RobustKochLeaderConfig,
)
from lerobot_robot_koch.calibration_check import CalibrationError

OURS = {
    "follower": (RobustKochFollower, RobustKochFollowerConfig),
    "leader": (RobustKochLeader, RobustKochLeaderConfig),
}
STOCK = {"follower": (KochFollower, KochFollowerConfig), "leader": (KochLeader, KochLeaderConfig)}


def device_on(bench, arm="follower", kind=OURS, **fields):
    device, config = kind[arm]
    return device(config(port=bench.ready()["ports"][arm], id="sim", **fields))


def calibrate_motors(bench, arm="follower", inverted=()) -> dict[str, MotorCalibration]:
    """Give the bench's servos the canonical calibration; what a file about it says."""
    low, high = rad_to_ticks(LOWER_RAD), rad_to_ticks(UPPER_RAD)
    calibration = {}
    for i, (joint, servo) in enumerate(zip(JOINT_NAMES, bench.arms[arm].servos, strict=True)):
        full = joint in FULL_TURN_JOINTS
        mode = int((arm == "leader" and joint == "elbow_flex") != (joint in inverted))
        servo.set("Drive_Mode", mode)
        servo.set("Homing_Offset", 0)
        middle = bench.arms[arm]._mounts[i].to_ticks(float(MID_RAD[i]))
        homing = 2047 - servo.to_present(middle)
        limits = (0, 4095) if full else (int(low[i]), int(high[i]))
        if joint in inverted:
            limits = (4094 - limits[1], 4094 - limits[0]) if not full else limits
        for name, value in zip(
            ("Homing_Offset", "Min_Position_Limit", "Max_Position_Limit"), (homing, *limits), strict=True
        ):
            servo.set(name, value)
        calibration[joint] = MotorCalibration(i + 1, mode, homing, *limits)
    return calibration


def save(device, calibration) -> None:
    """Write a calibration file for a device that is made afterwards."""
    text = json.dumps({joint: asdict(entry) for joint, entry in calibration.items()})
    device.calibration_fpath.write_text(text)


def torque(bench, arm="follower") -> list[bool]:
    return [servo.torque_enabled for servo in bench.arms[arm].servos]


def writes(bench, arm="follower") -> list[str]:
    """Names of the registers that are written from now on."""
    names: list[str] = []
    for servo in bench.arms[arm].servos:
        told = servo._on_write
        servo._on_write = lambda s, r, v, told=told: (names.append(r.name), told and told(s, r, v))
    return names


@pytest.fixture
def a_person_calibrates(monkeypatch):
    """ENTER at once at the first prompts, and after the hand's sweep at the last; the prompts are noted."""
    prompts: list[str] = []

    def answer(prompt: str = "") -> str:
        prompts.append(prompt)
        return ""

    asked: list[float] = []

    def enter_pressed() -> bool:
        asked.append(time.monotonic())
        if asked[-1] - asked[0] <= SWEEP_S + 0.3:
            return False
        asked.clear()
        return True

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("lerobot.motors.motors_bus.enter_pressed", enter_pressed)
    return prompts


@pytest.fixture
def no_prompt(monkeypatch):
    def refuse(prompt: str = "") -> str:
        raise AssertionError(f"asked: {prompt}")

    monkeypatch.setattr("builtins.input", refuse)


# --- the check at connect


@pytest.mark.parametrize("arm", ["follower", "leader"])
def test_a_good_calibration_connects_without_a_word(start_bench, no_prompt, caplog, arm):
    bench = start_bench(hand=HandMode("idle"))
    save(device_on(bench, arm), calibrate_motors(bench, arm))
    device = device_on(bench, arm)
    device.connect()
    assert any(torque(bench, arm))
    device.disconnect()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING and "alibration" in r.message]


@pytest.mark.parametrize("arm", ["follower", "leader"])
def test_a_bad_file_is_refused_before_any_motor_is_touched(start_bench, no_prompt, arm):
    bench = start_bench()
    calibration = calibrate_motors(bench, arm)
    calibration["elbow_flex"] = replace(calibration["elbow_flex"], range_min=3000, range_max=1000)
    calibration["gripper"] = replace(calibration["gripper"], range_max=calibration["gripper"].range_min + 20)
    save(device_on(bench, arm), calibration)
    device = device_on(bench, arm)
    written = writes(bench, arm)
    with pytest.raises(CalibrationError) as error:
        device.connect()
    text = str(error.value)
    for part in ("elbow_flex: its range (3000..1000) is inverted", "gripper", str(device.calibration_fpath)):
        assert part in text, part
    assert written == []
    assert not device.is_connected


def test_a_joint_a_whole_turn_off_is_refused_before_the_torque(start_bench, no_prompt):
    bench = start_bench()
    calibration = calibrate_motors(bench)
    for joint, servo in zip(JOINT_NAMES, bench.arms["follower"].servos, strict=True):
        if joint == "wrist_flex":  # as if the power had come on beyond the encoder's zero
            servo.set("Homing_Offset", calibration[joint].homing_offset + 4096)
            entry = replace(calibration[joint], homing_offset=servo.get("Homing_Offset"))
    save(device_on(bench), {**calibration, "wrist_flex": entry})
    device = device_on(bench)
    written = writes(bench)
    with pytest.raises(CalibrationError, match=r"wrist_flex: stands at .* it reads a whole turn off"):
        device.connect()
    assert written == []
    assert torque(bench) == [False] * 6


def test_without_asking_a_bad_file_leaves_the_arm_alone_until_it_is_calibrated(
    start_bench, a_person_calibrates
):
    """`lerobot-calibrate` connects this way; it is what repairs such a file."""
    bench = start_bench()
    calibration = calibrate_motors(bench)
    save(device_on(bench), {**calibration, "gripper": replace(calibration["gripper"], range_max=0)})
    device = device_on(bench)
    written = writes(bench)
    device.connect(calibrate=False)
    assert (written, torque(bench)) == ([], [False] * 6)
    with pytest.raises(CalibrationError, match="gripper: its range"):
        device.get_observation()
    with pytest.raises(CalibrationError, match="gripper: its range"):
        device.send_action({f"{joint}.pos": 0.0 for joint in JOINT_NAMES})
    device.calibrate()
    assert not any("use provided calibration" in prompt for prompt in a_person_calibrates)
    assert set(device.get_observation()) == {f"{joint}.pos" for joint in JOINT_NAMES}
    device.disconnect()
    again = device_on(bench)
    again.connect()
    again.disconnect()


@pytest.mark.parametrize("content", ["", "{", '{"gripper": 3}', '{"gripper": {"id": "six"}}'])
def test_a_damaged_file_neither_stops_the_repair_nor_drives_the_arm(start_bench, no_prompt, content):
    bench = start_bench()
    path = device_on(bench).calibration_fpath
    path.write_text(content)
    device = device_on(bench)
    with pytest.raises(CalibrationError, match=r"sim.json is not a calibration file"):
        device.connect()
    device.connect(calibrate=False)  # then `lerobot-calibrate` calls `calibrate()`
    assert torque(bench) == [False] * 6
    with pytest.raises(CalibrationError):
        device.get_observation()
    device.disconnect()


def test_at_a_terminal_a_bad_file_leads_to_a_new_calibration(
    start_bench, a_person_calibrates, monkeypatch, caplog
):
    bench = start_bench()
    calibration = calibrate_motors(bench)
    save(device_on(bench), {**calibration, "gripper": replace(calibration["gripper"], id=9)})
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    device = device_on(bench)
    device.connect()
    assert "gripper: `id` is 9" in caplog.text
    assert all(torque(bench))
    device.disconnect()
    assert json.loads(device.calibration_fpath.read_text())["gripper"]["id"] == 6


def test_without_a_terminal_a_mismatch_is_told_instead_of_asked_about(start_bench, monkeypatch):
    bench = start_bench()
    calibration = calibrate_motors(bench)
    homing = calibration["elbow_flex"].homing_offset
    save(device_on(bench), {**calibration, "elbow_flex": replace(calibration["elbow_flex"], homing_offset=7)})

    def no_stdin(_: str = "") -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", no_stdin)
    device = device_on(bench)
    with pytest.raises(CalibrationError) as error:
        device.connect()
    assert f"`homing_offset` is 7 in the calibration file, but {homing} in the motor" in str(error.value)
    assert "lerobot-calibrate" in str(error.value)
    assert not device.is_connected


def test_a_fresh_calibration_that_looks_wrong_is_said_at_once(start_bench, monkeypatch):
    """ENTER pressed before anything was moved."""
    bench = start_bench(hand=HandMode("idle"))
    monkeypatch.setattr("builtins.input", lambda _="": "")
    # A few degrees, as when somebody leans on the arm.
    moved = iter([dict.fromkeys(JOINT_NAMES, 2047), dict.fromkeys(JOINT_NAMES, 2060)])
    device = device_on(bench)
    device.connect(calibrate=False)
    monkeypatch.setattr("lerobot.motors.motors_bus.enter_pressed", lambda: True)
    read = device.bus.sync_read

    def sync_read(name, motors=None, **more):
        joints = motors if isinstance(motors, list) else None
        if name == "Present_Position" and joints is not None and len(joints) == 4:
            return {joint: next_values[joint] for next_values in [next(moved)] for joint in joints}
        return read(name, motors, **more)

    monkeypatch.setattr(device.bus, "sync_read", sync_read)
    with pytest.raises(CalibrationError) as error:
        device.calibrate()
    assert [finding.joint for finding in error.value.findings] == [
        joint for joint in JOINT_NAMES if joint not in FULL_TURN_JOINTS
    ]
    device.disconnect()


# --- directions


def rest_in_units(bench, arm, joint) -> float:
    """Where the joint stands, by the simulated arm's own angle, in the units of a normal direction."""
    i = JOINT_NAMES.index(joint)
    share = (float(bench.arms[arm].q_rad[i]) - float(MID_RAD[i])) / float(UPPER_RAD[i] - MID_RAD[i])
    return max(-100.0, min(100.0, share * 100))


def position(device, joint) -> float:
    values = device.get_observation() if hasattr(device, "get_observation") else device.get_action()
    return float(values[f"{joint}.pos"])


def mirrored(device, bench, arm, joint) -> bool:
    """Whether a reading is the negative of where the joint stands, which is not near zero."""
    rest = rest_in_units(bench, arm, joint)
    return abs(rest) > 5 and abs(position(device, joint) + rest) < 1


def wait_for(condition, seconds: float = 10.0) -> bool:
    """Whether `condition` holds within some time: a limp arm needs a moment to come to rest."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("arm", "joint"), [("follower", "elbow_flex"), ("leader", "wrist_flex")])
def test_a_joint_inverted_by_the_config_is_calibrated_so_and_stays_so(
    start_bench, a_person_calibrates, arm, joint
):
    bench = start_bench()
    save(device_on(bench, arm), calibrate_motors(bench, arm))
    device = device_on(bench, arm, drive_mode={joint: 1})
    device.connect(calibrate=False)  # as `lerobot-calibrate` does
    with pytest.raises(CalibrationError, match=f"{joint}: .* `drive_mode` 0, but the config asks for 1"):
        position(device, joint)
    device.calibrate()
    device.disconnect()
    bench.loop.call(lambda: bench.loop.hand.set_mode(HandMode("idle")))
    servo = bench.arms[arm].servos[JOINT_NAMES.index(joint)]
    file = json.loads(device.calibration_fpath.read_text())
    assert file[joint]["drive_mode"] == servo.get("Drive_Mode") == 1
    others = {name: entry["drive_mode"] for name, entry in file.items() if name != joint}
    assert others == {n: int((arm, n) == ("leader", "elbow_flex")) for n in JOINT_NAMES if n != joint}
    # With the field, without it, and by the stock class: no prompt (ENTER would be noted), the same reading.
    del a_person_calibrates[:]
    for kind, fields in ((OURS, {"drive_mode": {joint: 1}}), (OURS, {}), (STOCK, {})):
        again = device_on(bench, arm, kind, **fields)
        again.connect()
        if arm == "follower":  # else it may be held where both directions read the same: in the middle
            again.send_action({f"{joint}.pos": 40.0})
        assert wait_for(lambda again=again: mirrored(again, bench, arm, joint))
        again.disconnect()
    assert a_person_calibrates == []


def test_a_file_s_direction_is_written_to_a_motor_that_lost_it(start_bench, a_person_calibrates):
    """A replaced servo; stock writes everything but the direction, and asks again for ever."""
    bench = start_bench(hand=HandMode("idle"))
    calibration = calibrate_motors(bench, inverted=("wrist_flex",))
    save(device_on(bench), calibration)
    servo = bench.arms["follower"].servos[JOINT_NAMES.index("wrist_flex")]
    servo.set("Drive_Mode", 0)
    servo.set("Homing_Offset", 0)
    device = device_on(bench)
    device.connect()
    assert len(a_person_calibrates) == 1
    assert "use provided calibration" in a_person_calibrates[0]
    assert servo.get("Drive_Mode") == 1
    assert device.is_calibrated
    device.disconnect()


def test_directions_are_not_written_when_they_are_right(start_bench, no_prompt):
    bench = start_bench()
    calibration = calibrate_motors(bench)
    device = device_on(bench)
    device.bus.connect()
    written = writes(bench)
    device.bus.write_calibration(calibration)
    device.bus.disconnect()
    assert "Drive_Mode" not in written
    assert written.count("Homing_Offset") == 6


def test_a_range_the_motors_refuse_is_named_before_anything_is_written(start_bench, no_prompt):
    bench = start_bench()
    calibration = calibrate_motors(bench)
    calibration["elbow_flex"] = replace(calibration["elbow_flex"], range_min=-300)
    device = device_on(bench)
    device.bus.connect()
    written = writes(bench)
    with pytest.raises(CalibrationError, match=r"elbow_flex: its range \(-300\.\..*middle of its motion"):
        device.bus.write_calibration(calibration)
    device.bus.disconnect(disable_torque=False)
    assert written == []
