# SPDX-License-Identifier: Apache-2.0
"""The bus doctor: its conclusions on made-up measurements, its measurements on the bench."""

import json
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lerobot_env_koch.bench.faults import FaultPlan
from lerobot_robot_koch import (
    RobustKochFollower,
    RobustKochFollowerConfig,
    RobustKochLeader,
    RobustKochLeaderConfig,
)
from lerobot_robot_koch.doctor import check
from lerobot_robot_koch.doctor.conclude import conclude
from lerobot_robot_koch.doctor.expected import ARMS, MODELS, XL330_M288, XL430, joint_of
from lerobot_robot_koch.doctor.measure import BusReport, MotorReport, RoundTrips, measure
from lerobot_robot_koch.doctor.raw_bus import RawBus
from lerobot_robot_koch.relax import relax

from lerobot_ext.cli.main import main
from lerobot_ext.doctor.adapter import Adapter, describe_adapter, other_programs

GOOD = {
    "firmware": 52,
    "return_delay": 0,
    "operating_mode": 4,
    "temperature_limit": 70,
    "torque": 1,
    "status_return_level": 2,
    "hardware_error": 0,
    "temperature": 34,
}


def trips(n=100, lost=0, damaged=0, ms=1.2):
    return RoundTrips(n, lost, damaged, [ms] * (n - lost - damaged))


def good_report(arm="koch_follower", **fields) -> BusReport:
    motors = []
    for i, model in enumerate(ARMS[arm]):
        decivolts = 120 if model is XL430 else 50
        motors.append(MotorReport(i + 1, model.number, {**GOOD, "decivolts": decivolts}, trips()))
    report = BusReport(arm, "/dev/ttyUSB0", Adapter("/dev/ttyUSB0"), motors)
    report.sync_reads = trips(ms=6.0)
    report.fast_sync_reads = trips(ms=2.0)
    for name, value in fields.items():
        setattr(report, name, value)
    return report


def found(report):
    return [(f.level, f.kind, f.subject) for f in conclude(report)]


# --- conclusions


@pytest.mark.parametrize("arm", ARMS)
def test_a_healthy_bus_has_no_findings(arm):
    assert conclude(good_report(arm)) == []


@pytest.mark.parametrize("first", [2, 3, 6])
def test_motors_missing_from_one_on_point_at_the_cable_before_it(first):
    report = good_report()
    for motor in report.motors[first - 1 :]:
        motor.model, motor.registers, motor.reads = None, {}, RoundTrips()
    (finding,) = conclude(report)
    assert (finding.level, finding.kind) == ("problem", "missing")
    names = [joint_of(id_) for id_ in range(7)]
    assert f"cable between {names[first - 1]} and {names[first]}" in finding.remedy
    assert f"{names[first]} (id {first})" in finding.message


def test_one_missing_motor_points_at_itself():
    report = good_report()
    report.motors[2].model = None
    (finding,) = conclude(report)
    assert (finding.kind, finding.subject) == ("missing", "elbow_flex")
    assert "plug of elbow_flex" in finding.remedy


def test_a_silent_bus_is_told_from_another_baud_rate():
    report = good_report()
    for motor in report.motors:
        motor.model, motor.registers, motor.reads = None, {}, RoundTrips()
    report.sync_reads, report.fast_sync_reads = RoundTrips(), None
    assert found(report) == [("problem", "silent", "bus")]
    report.other_baud_rates = {57_600: [1]}
    (finding,) = conclude(report)
    assert finding.kind == "baud_rate"
    assert "id 1 at 57600" in finding.message
    assert "lerobot-setup-motors" in finding.remedy


@pytest.mark.parametrize(
    ("rates", "where", "words"),
    [
        ((5, 6, 4, 5, 5, 6), "bus", "USB cable"),
        ((0, 0, 5, 6, 4, 5), "elbow_flex", "cable between shoulder_lift and elbow_flex"),
        ((0, 1, 0, 0, 4, 5), "wrist_roll", "cable between wrist_flex and wrist_roll"),
        ((0, 0, 9, 0, 0, 0), "elbow_flex", "its own plugs"),
        ((9, 7, 0, 8, 9, 9), "bus", "USB cable"),
        ((1, 0, 9, 7, 8, 9), "elbow_flex", "cable between shoulder_lift and elbow_flex"),
    ],
)
def test_where_answers_get_lost_says_what_to_check(rates, where, words):
    report = good_report()
    for motor, lost in zip(report.motors, rates, strict=True):
        motor.reads = trips(lost=lost)
    (finding,) = conclude(report)
    assert (finding.level, finding.kind, finding.subject) == ("problem", "loss", where)
    assert words in finding.remedy


def test_a_few_lost_answers_are_a_note():
    report = good_report()
    report.motors[3].reads = trips(n=500, lost=1)
    assert found(report) == [("note", "loss", "bus")]


@pytest.mark.parametrize(
    ("motor", "decivolts", "level"),
    [
        (0, 150, "problem"),
        (0, 60, "problem"),
        (0, 90, "note"),
        (2, 65, "problem"),
        (2, 35, "problem"),
        (2, 42, "note"),
    ],
)
def test_supply_is_judged_by_the_motor_s_model(motor, decivolts, level):
    report = good_report()
    report.motors[motor].registers["decivolts"] = decivolts
    (finding,) = conclude(report)
    assert (finding.level, finding.kind) == (level, "voltage")
    assert f"{decivolts / 10:.1f} V" in finding.message


@pytest.mark.parametrize(
    ("register", "value", "expected"),
    [
        ("temperature", 56, ("note", "temperature", "wrist_flex")),
        ("temperature", 66, ("problem", "temperature", "wrist_flex")),
        ("hardware_error", 0x20, ("problem", "hardware_error", "wrist_flex")),
        ("return_delay", 250, ("note", "return_delay", "bus")),
        ("status_return_level", 1, ("problem", "status_return_level", "wrist_flex")),
    ],
)
def test_registers_that_mean_trouble(register, value, expected):
    report = good_report()
    report.motors[3].registers[register] = value
    assert found(report) == [expected]


def test_hardware_errors_are_decoded():
    report = good_report()
    report.motors[5].registers["hardware_error"] = 0x24
    (finding,) = conclude(report)
    assert "overheating and overload" in finding.message
    assert "off and on" in finding.remedy


def test_swapped_arms_are_recognised():
    report = good_report()
    for motor in report.motors:
        motor.model = ARMS["koch_leader"][0].number
        motor.registers["decivolts"] = 50
    findings = conclude(report)
    assert {f.kind for f in findings} == {"model"}
    assert all("koch_leader" in f.remedy for f in findings)


def test_the_latency_timer_comes_with_the_command_that_sets_it():
    report = good_report(adapter=Adapter("/dev/ttyUSB0", latency_timer_ms=16))
    (finding,) = conclude(report)
    assert finding.kind == "latency_timer"
    assert "echo 1 | sudo tee /sys/bus/usb-serial/devices/ttyUSB0/latency_timer" in finding.remedy
    assert conclude(good_report(adapter=Adapter("/dev/ttyUSB0", latency_timer_ms=1))) == []
    # Where the system does not tell, the answers do.
    report = good_report()
    for motor in report.motors:
        motor.reads = trips(ms=16.3)
    assert found(report) == [("problem", "latency_timer", "adapter")]


def test_no_fast_sync_read_names_the_firmware():
    report = good_report(fast_sync_reads=trips(n=12, lost=12))
    (finding,) = conclude(report)
    assert (finding.level, finding.kind) == ("note", "fast_sync_read")
    assert "gripper 52" in finding.message


@given(
    models=st.lists(st.sampled_from([None, 4711, *MODELS]), min_size=6, max_size=6),
    registers=st.dictionaries(st.sampled_from([*GOOD, "decivolts"]), st.integers(0, 2**16 - 1)),
    lost=st.integers(0, 50),
    damaged=st.integers(0, 50),
)
def test_any_measurement_is_judged(models, registers, lost, damaged):
    report = good_report()
    for motor, model in zip(report.motors, models, strict=True):
        motor.model, motor.registers, motor.reads = model, registers, trips(lost=lost, damaged=damaged)
    findings = conclude(report)
    assert all(f.message and f.remedy for f in findings)
    if not any(models):
        assert [f.kind for f in findings[:1]] == ["silent"]


# --- what it expects


def test_the_expected_motors_are_stock_lerobot_s():
    devices = {
        "koch_follower": RobustKochFollower(RobustKochFollowerConfig(port="/dev/none")),
        "koch_leader": RobustKochLeader(RobustKochLeaderConfig(port="/dev/none")),
    }
    for arm, models in ARMS.items():
        bus = devices[arm].bus
        assert [(m.id, m.model) for m in bus.motors.values()] == [
            (i + 1, m.name) for i, m in enumerate(models)
        ]
        assert all(bus.model_number_table[m.name] == m.number for m in models)
        assert bus.default_baudrate == 1_000_000
    assert set(check._ARMS.values()) == set(ARMS)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from lerobot_ext.doctor.extension import load_checks\n"
        "assert [c.name for c in load_checks()] == ['koch']\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'rich', 'dynamixel_sdk'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# --- the adapter


def test_the_latency_timer_is_read_from_sysfs(tmp_path):
    port = tmp_path / "ttyUSB7"
    port.write_text("")
    (tmp_path / "sys" / "ttyUSB7").mkdir(parents=True)
    (tmp_path / "sys" / "ttyUSB7" / "latency_timer").write_text("16\n")
    assert describe_adapter(str(port), tmp_path / "sys").latency_timer_ms == 16
    assert describe_adapter(str(port), tmp_path / "none").latency_timer_ms is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_another_program_on_the_port_is_named_and_left_alone(start_bench, capsys):
    bench = start_bench()
    port = bench.ready()["ports"]["follower"]
    assert other_programs(port) == []
    code = (
        "import sys, time\n"
        "port = open(sys.argv[1], 'rb', buffering=0)\n"
        "print('open', flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, port], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "open\n"
            before = bench.buses["follower"].stats.n_instructions
            for words in (
                ["doctor", "--robot.type=koch_follower", f"--robot.port={port}"],
                ["relax", "--port", port],
            ):
                assert main(words) == 2
                assert f"pid {other.pid}" in capsys.readouterr().err
            assert bench.buses["follower"].stats.n_instructions == before
        finally:
            other.kill()


# --- on the bench


def doctor(capsys, bench, arm="follower", *more):
    role, type_ = {"follower": ("robot", "koch_follower"), "leader": ("teleop", "koch_leader")}[arm]
    port = bench.ready()["ports"][arm]
    rc = main(["doctor", f"--{role}.type={type_}", f"--{role}.port={port}", "--json", "--seconds=2", *more])
    report = json.loads(capsys.readouterr().out)
    (bus,) = report["examined"]
    return rc, bus | {"findings": report["findings"]}


def quiet(bench, arm="follower") -> bool:
    """Whether the machine let the bench answer in time, so that what was measured is the bus."""
    stats = bench.buses[arm].stats
    return stats.n_late + stats.n_stalls == 0


@pytest.mark.parametrize("arm", ["follower", "leader"])
def test_a_bench_is_healthy_and_nothing_is_written(start_bench, capsys, arm):
    bench = start_bench()
    servos = bench.arms[arm].servos
    written = []
    for servo in servos:
        servo.set("Return_Delay_Time", 0)
        servo.set("Torque_Enable", 1)
        servo._on_write = lambda *what: written.append(what)
    rc, bus = doctor(capsys, bench, arm)
    assert written == []
    assert [s.torque_enabled for s in servos] == [True] * 6
    assert [(m["torque"], m["firmware"], m["model"]) for m in bus["motors"]] == [
        (1, servo.model.firmware, servo.model.name) for servo in servos
    ]
    assert bus["fast_sync_read"] is True
    assert bus["fast_sync_reads"]["p50_ms"] < bus["sync_reads"]["p50_ms"]
    assert min(m["reads"]["n"] for m in bus["motors"]) >= 10
    if quiet(bench, arm):
        assert (rc, bus["ok"], bus["findings"]) == (0, True, [])


def test_lost_answers_are_counted_by_motor(start_bench, capsys):
    bench = start_bench(faults=FaultPlan(drop=0.2))
    rc, bus = doctor(capsys, bench)
    assert rc == 1
    n = sum(m["reads"]["n"] for m in bus["motors"])
    lost = sum(m["reads"]["n_lost"] for m in bus["motors"])
    assert 0.1 < lost / n < 0.35
    assert {m["model"] for m in bus["motors"]} == {"xl430-w250", "xl330-m288"}  # all were found nevertheless
    assert {f["kind"] for f in bus["findings"] if f["level"] == "problem"} == {"loss"}


def test_damaged_answers_are_told_from_lost_ones(start_bench, capsys):
    bench = start_bench(faults=FaultPlan(crc=0.2))
    rc, bus = doctor(capsys, bench)
    assert rc == 1
    assert sum(m["reads"]["n_damaged"] for m in bus["motors"]) > 10
    if quiet(bench):
        assert sum(m["reads"]["n_lost"] for m in bus["motors"]) == 0


def test_missing_motors_low_volts_heat_and_errors_show(start_bench, capsys):
    bench = start_bench()
    servos = bench.arms["follower"].servos
    servos[0].set("Present_Input_Voltage", 55)
    servos[1].set("Present_Temperature", 70)
    servos[2].set("Hardware_Error_Status", 0x20)
    bench.buses["follower"].servos[4:] = []
    rc, bus = doctor(capsys, bench)
    assert rc == 1
    problems = {(f["kind"], f["subject"]) for f in bus["findings"] if f["level"] == "problem"}
    assert problems >= {
        ("missing", "wrist_roll"),
        ("voltage", "shoulder_pan"),
        ("temperature", "shoulder_lift"),
        ("hardware_error", "elbow_flex"),
    }
    assert [m["reads"]["n"] for m in bus["motors"]][4:] == [0, 0]


def test_a_motor_at_another_speed_is_found(start_bench, capsys):
    bench = start_bench()
    bench.buses["follower"].servos[1:] = []
    bench.arms["follower"].servos[0].set("Baud_Rate", 1)
    rc, bus = doctor(capsys, bench)
    assert rc == 1
    assert bus["other_baud_rates"] == {"57600": [1]}
    assert [f["kind"] for f in bus["findings"]] == ["baud_rate"]


def test_a_motor_the_arm_does_not_have_is_noted(start_bench, capsys):
    bench = start_bench()
    bench.arms["follower"].servos[5].set("ID", 9)
    rc, bus = doctor(capsys, bench)
    assert rc == 1
    assert bus["strangers"] == {"9": XL330_M288.number}
    assert {f["kind"] for f in bus["findings"]} >= {"missing", "stranger"}


@pytest.mark.parametrize("arm", ["follower", "leader"])
def test_with_an_id_the_calibration_is_checked_too(start_bench, capsys, tmp_path, arm):
    bench = start_bench()
    role = {"follower": "robot", "leader": "teleop"}[arm]
    words = [f"--{role}.id=me", f"--{role}.calibration_dir={tmp_path}"]

    def calibration_findings() -> dict[str, str]:
        _, bus = doctor(capsys, bench, arm, *words)
        messages: dict[str, str] = {}
        for f in bus["findings"]:
            if f["kind"] == "calibration":
                messages[f["subject"]] = messages.get(f["subject"], "") + f["message"] + "\n"
        return messages

    assert "there is no calibration file" in calibration_findings()["calibration"]
    entries = {}
    for i, servo in enumerate(bench.arms[arm].servos):
        servo.set("Homing_Offset", 2047 - servo.to_present(servo._shaft().ticks))
        entries[joint_of(i + 1)] = {
            "id": i + 1,
            "drive_mode": servo.get("Drive_Mode"),
            "homing_offset": servo.get("Homing_Offset"),
            "range_min": servo.get("Min_Position_Limit"),
            "range_max": servo.get("Max_Position_Limit"),
        }
    path = tmp_path / "me.json"
    path.write_text(json.dumps(entries))
    assert calibration_findings() == {}
    entries["gripper"]["homing_offset"] += 1
    entries["wrist_flex"]["homing_offset"] -= 4096
    bench.arms[arm].servos[3].set("Homing_Offset", entries["wrist_flex"]["homing_offset"])
    path.write_text(json.dumps(entries))
    found = calibration_findings()
    assert "`homing_offset` is" in found["gripper"]
    assert "a whole turn off" in found["wrist_flex"]
    path.write_text("{")
    assert "is not a calibration file" in calibration_findings()["calibration"]


@pytest.mark.slow
def test_the_calibration_file_is_where_lerobot_keeps_it(monkeypatch, tmp_path):
    code = (
        "from lerobot.utils.constants import HF_LEROBOT_CALIBRATION as home, ROBOTS, TELEOPERATORS\n"
        "from lerobot_robot_koch.doctor.calibration import calibration_path as path\n"
        "assert path('koch_follower', 'me') == home / ROBOTS / 'koch_follower' / 'me.json', home\n"
        "assert path('koch_leader', 'me') == home / TELEOPERATORS / 'koch_leader' / 'me.json', home\n"
    )
    for variables in (
        {},
        {"HF_LEROBOT_HOME": str(tmp_path)},
        {"HF_LEROBOT_CALIBRATION": str(tmp_path / "c")},
    ):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_LEROBOT")}
        subprocess.run([sys.executable, "-c", code], env=kept | variables, check=True)


def test_progress_ends_at_one(start_bench):
    bench = start_bench()
    told: list[float] = []
    with RawBus(bench.ready()["ports"]["follower"]) as bus:
        measure("koch_follower", bus, 1.5, told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--robot.port=/dev/none"], "--robot.port needs --robot.type"),
        (["--robot.type=koch_follower"], "--robot.type needs --robot.port"),
        (["--robot.type=koch_follower", "--robot.port=/dev/none"], "'/dev/none' does not exist"),
        (["--teleop.type=koch_leader", "--teleop.port=/dev/none", "--seconds=0"], "--seconds is 0"),
    ],
)
def test_what_is_missing_is_one_clear_line(capsys, words, message):
    assert main(["doctor", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_table_is_for_people(start_bench, capsys):
    bench = start_bench()
    port = bench.ready()["ports"]["follower"]
    main(["doctor", "--robot.type=koch_follower", f"--robot.port={port}", "--seconds=1"])
    text = capsys.readouterr().out
    for words in ("koch_follower on", "elbow_flex", "xl330-m288", "12.0", "fast sync read: p50", "problem"):
        assert words in text, words


# --- relax


def test_relaxing_reaches_every_motor_on_a_bad_line(start_bench, capsys):
    bench = start_bench(faults=FaultPlan(drop=0.3))
    for servo in bench.arms["follower"].servos:
        servo.set("Torque_Enable", 1)
    port = bench.ready()["ports"]["follower"]
    assert main(["relax", "--port", port, "--yes"]) == 0
    assert not any(s.torque_enabled for s in bench.arms["follower"].servos)
    assert capsys.readouterr().out.count("torque off") == 6


def test_relaxing_says_which_motor_has_not_confirmed(start_bench, capsys):
    bench = start_bench()
    for servo in bench.arms["follower"].servos:
        servo.set("Torque_Enable", 1)
    bench.buses["follower"].servos[2:3] = []
    with RawBus(bench.ready()["ports"]["follower"]) as bus:
        assert relax(bus, range(1, 7)) == {1: True, 2: True, 3: False, 4: True, 5: True, 6: True}
    assert main(["relax", "--port", bench.ready()["ports"]["follower"], "--yes"]) == 1
    assert "id 3 (elbow_flex): NOT CONFIRMED" in capsys.readouterr().out


def test_relaxing_asks_first(start_bench, capsys, monkeypatch):
    bench = start_bench()
    for servo in bench.arms["follower"].servos:
        servo.set("Torque_Enable", 1)
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert main(["relax", "--port", bench.ready()["ports"]["follower"]]) == 2
    assert "--yes" in capsys.readouterr().err
    time.sleep(0.1)
    assert all(s.torque_enabled for s in bench.arms["follower"].servos)
