# SPDX-License-Identifier: Apache-2.0
"""The rules of the calibration check, on numbers alone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lerobot.motors import MotorCalibration
from lerobot_env_koch.bench.arm import FOLLOWER_MOUNTS, LEADER_MOUNTS
from lerobot_env_koch.constants import CENTRE_TICK, FULL_TURN_JOINTS, JOINT_NAMES
from lerobot_env_koch.units import LOWER_RAD, MID_RAD, UPPER_RAD, rad_to_ticks
from lerobot_robot_koch import calibration_check as check
from lerobot_robot_koch.calibration_check import (
    FAR_TICKS,
    LOOSE_TICKS,
    MAX_LIMIT,
    TICKS_PER_TURN,
    CalibrationError,
    check_file,
    check_motors,
)

IDS = {joint: i + 1 for i, joint in enumerate(JOINT_NAMES)}


def canonical(mounts=FOLLOWER_MOUNTS) -> dict[str, MotorCalibration]:
    """What stock calibration finds on the bench's arms."""
    low, high = rad_to_ticks(LOWER_RAD), rad_to_ticks(UPPER_RAD)
    calibration = {}
    for i, joint in enumerate(JOINT_NAMES):
        full = joint in FULL_TURN_JOINTS
        # Both mirrored servos are inverted by their drive mode, which negates what the encoder counts.
        raw = mounts[i].direction * mounts[i].to_ticks(float(MID_RAD[i]))
        calibration[joint] = MotorCalibration(
            id=i + 1,
            drive_mode=int(mounts[i].direction < 0),
            homing_offset=CENTRE_TICK - round(raw),
            range_min=0 if full else int(low[i]),
            range_max=MAX_LIMIT if full else int(high[i]),
        )
    return calibration


def changed(joint: str, **fields: int) -> dict[str, MotorCalibration]:
    calibration = canonical()
    calibration[joint] = replace(calibration[joint], **fields)
    return calibration


def found(calibration, **more):
    return [(f.level, f.joint) for f in check_file(calibration, IDS, **more)]


@pytest.mark.parametrize("mounts", [FOLLOWER_MOUNTS, LEADER_MOUNTS], ids=["follower", "leader"])
def test_the_canonical_calibration_passes(mounts):
    assert check_file(canonical(mounts), IDS) == []


def test_a_joint_that_reads_the_whole_turn_is_no_error():
    """As `lerobot-ext sim --hand clock` calibrates every joint."""
    calibration = {j: MotorCalibration(i, 0, 0, 0, MAX_LIMIT) for j, i in IDS.items()}
    assert check.errors(check_file(calibration, IDS)) == []


@pytest.mark.parametrize(
    ("joint", "fields", "level", "words"),
    [
        ("elbow_flex", {"range_min": 3000, "range_max": 1000}, "error", "(3000..1000) is inverted"),
        ("elbow_flex", {"range_min": 2000, "range_max": 2000}, "error", "(2000..2000) is empty"),
        ("elbow_flex", {"range_min": 2000, "range_max": 2100}, "error", "only 9° wide"),
        ("gripper", {"range_min": 2000, "range_max": 2090}, "error", "only 8° wide"),
        ("gripper", {"range_min": 2000, "range_max": 2150}, "warning", "13° wide"),
        ("wrist_flex", {"range_min": 1500, "range_max": 2500}, "warning", "88° wide"),
        ("shoulder_lift", {"range_min": -120}, "error", "leaves what the servo takes (0..4095)"),
        ("shoulder_lift", {"homing_offset": 1_044_480}, "error", "beyond what the servo takes (±1044479)"),
        ("shoulder_lift", {"homing_offset": 5000}, "warning", "counted a turn or more"),
        ("wrist_roll", {"homing_offset": -6000}, "warning", "counted a turn or more"),
        ("elbow_flex", {"homing_offset": 1800}, "warning", "crosses the encoder's zero"),
        ("elbow_flex", {"homing_offset": 1050}, "warning", "ends 1° from the encoder's zero"),
        ("gripper", {"id": 5}, "error", "`id` is 5 in the calibration file, but the motor's is 6"),
        ("gripper", {"drive_mode": 99}, "error", "`drive_mode` (99)"),
        ("gripper", {"drive_mode": 4}, "warning", "`drive_mode` (4) sets more than the direction"),
    ],
)
def test_each_rule_names_joint_value_and_remedy(joint, fields, level, words):
    (finding,) = check_file(changed(joint, **fields), IDS)
    assert (finding.level, finding.joint) == (level, joint)
    assert words in finding.message
    assert finding.remedy
    assert str(finding).startswith(f"{joint}: ")


def test_missing_and_unknown_joints():
    calibration = canonical()
    calibration["wrist"] = calibration.pop("wrist_flex")
    assert found(calibration) == [("error", "wrist_flex"), ("error", "wrist")]


def test_the_config_s_direction_must_be_the_file_s():
    assert found(canonical(), drive_mode={"elbow_flex": 0}) == []
    assert found(canonical(), drive_mode={"elbow_flex": 1}) == [("error", "elbow_flex")]
    inverted = changed("elbow_flex", drive_mode=1)
    # What the config does not name, the file decides.
    assert check.errors(check_file(inverted, IDS)) == []
    assert found(inverted, drive_mode={"elbow_flex": 0})[0] == ("error", "elbow_flex")


def test_one_error_lists_all_findings():
    calibration = changed("elbow_flex", range_min=3000, range_max=1000)
    del calibration["gripper"]
    error = CalibrationError("the calibration of koch_follower", check_file(calibration, IDS))
    assert "elbow_flex" in str(error)
    assert "gripper" in str(error)
    assert len(str(error).splitlines()) == 3


# --- motors


def middles(calibration):
    return {j: (c.range_min + c.range_max) // 2 for j, c in calibration.items()}


def test_motors_that_agree_pass():
    calibration = canonical()
    assert check_motors(calibration, canonical(), middles(calibration)) == []


@pytest.mark.parametrize(
    ("field", "level"),
    [("homing_offset", "error"), ("drive_mode", "error"), ("range_min", "warning"), ("range_max", "warning")],
)
def test_a_register_that_differs_is_named_with_both_values(field, level):
    calibration = canonical()
    value = getattr(calibration["elbow_flex"], field)
    in_motors = changed("elbow_flex", **{field: value + 1})
    (finding,) = check_motors(calibration, in_motors, middles(calibration))
    assert (finding.level, finding.joint) == (level, "elbow_flex")
    assert f"`{field}` is {value} in the calibration file, but {value + 1} in the motor" in finding.message
    assert "lerobot-calibrate" in finding.remedy


@pytest.mark.parametrize("joint", JOINT_NAMES)
@pytest.mark.parametrize("turns", [-2, -1, 1, 2])
def test_a_joint_a_whole_turn_off_is_an_error(joint, turns):
    calibration = canonical()
    positions = middles(calibration)
    positions[joint] += turns * TICKS_PER_TURN
    (finding,) = check_motors(calibration, canonical(), positions)
    assert (finding.level, finding.joint) == ("error", joint)
    assert f"reads {'a whole turn' if abs(turns) == 1 else '2 whole turns'} off" in finding.message
    assert "power off" in finding.remedy


@pytest.mark.parametrize(
    ("outside", "level"),
    [(LOOSE_TICKS, None), (LOOSE_TICKS + 1, "warning"), (FAR_TICKS, "warning"), (FAR_TICKS + 1, "error")],
)
def test_a_joint_outside_its_range(outside, level):
    calibration = canonical()
    positions = middles(calibration)
    positions["elbow_flex"] = calibration["elbow_flex"].range_max + outside
    findings = check_motors(calibration, canonical(), positions)
    assert [f.level for f in findings] == ([level] if level else [])


# --- properties

any_entry = st.builds(
    MotorCalibration,
    id=st.integers(-5, 300),
    drive_mode=st.integers(-3, 300),
    homing_offset=st.integers(-(2**31), 2**31),
    range_min=st.integers(-(2**31), 2**31),
    range_max=st.integers(-(2**31), 2**31),
)
any_file = st.dictionaries(st.sampled_from([*JOINT_NAMES, "other"]), any_entry)


@given(any_file, st.dictionaries(st.sampled_from(JOINT_NAMES), st.integers(0, 1)))
def test_any_file_is_judged_and_every_finding_says_what_to_do(calibration, drive_mode):
    findings = check_file(calibration, IDS, drive_mode)
    assert all(f.message and f.remedy for f in findings)
    bad = {f.joint for f in check.errors(findings)}
    for joint in JOINT_NAMES:
        entry = calibration.get(joint)
        usable = (
            entry is not None
            and entry.id == IDS[joint]
            and 0 <= entry.range_min < entry.range_max <= MAX_LIMIT
            and entry.range_max - entry.range_min >= check.MIN_SPANS.get(joint, 200)
            and abs(entry.homing_offset) <= check.MAX_HOMING_OFFSET
            and 0 <= entry.drive_mode <= 13
            and drive_mode.get(joint, entry.drive_mode & 1) == entry.drive_mode & 1
        )
        assert usable == (joint not in bad), (joint, entry)


@given(any_file, any_file, st.dictionaries(st.sampled_from(JOINT_NAMES), st.integers(-(2**31), 2**31)))
def test_any_answer_of_the_motors_is_judged(calibration, in_motors, positions):
    check_motors(calibration, in_motors, positions)


@given(
    joint=st.sampled_from([j for j in JOINT_NAMES if j not in FULL_TURN_JOINTS]),
    low=st.integers(64, 2000),
    span=st.integers(1200, 2000),
    shift=st.integers(-2047, 2048),
)
def test_a_range_is_suspect_exactly_when_its_encoder_gets_near_zero(joint, low, span, shift):
    """The encoder's own readings, `low` to `low + span`, decide; the offset that hides them does not."""
    homing = CENTRE_TICK - (low + span // 2)
    entry = {"range_min": low + homing, "range_max": low + span + homing, "homing_offset": homing}
    assert check_file(changed(joint, **entry), IDS) == []
    moved = changed(joint, **{**entry, "homing_offset": homing - shift})
    ends = (low + shift, low + span + shift)
    clear = ends[0] >= check.WRAP_MARGIN and ends[1] <= MAX_LIMIT - check.WRAP_MARGIN
    assert (check_file(moved, IDS) == []) == clear
