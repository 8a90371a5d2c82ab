# SPDX-License-Identifier: Apache-2.0
"""From what was measured on a bus to what is wrong with it and what to change. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from lerobot_ext.doctor.findings import Finding, note, problem, problems_first
from lerobot_robot_koch.alerts import hardware_errors
from lerobot_robot_koch.doctor.expected import ARMS, MODELS, joint_of, model_name
from lerobot_robot_koch.doctor.measure import BusReport, MotorReport

_STOCK_LIMIT: Final = 0.01
"""Share of lost reads above which the line itself must be mended, however patient the driver."""
_MIN_LOST: Final = 3
"""Fewer lost reads of one motor may be this computer's doing."""
_CLEARLY_BETTER: Final = 4
"""A motor whose loss is this many times below the others' is not on the bad side of a cable."""
_GATHERED_MS: Final = 8.0
"""A single answer takes 1 ms or 2; this long it has waited in an adapter that gathers bytes."""
_SLOW_SYNC_MS: Final = 20.0
_DEGREES_BELOW_LIMIT: Final = (5, 15)  # problem, note


def conclude(report: BusReport, more: Sequence[Finding] = ()) -> list[Finding]:
    """All findings about a bus, problems first.

    Args:
        report (`BusReport`): What was measured.
        more (`Sequence[Finding]`, *optional*): Findings of others, to be sorted in.
    """
    findings = list(_about_presence(report))
    for motor in report.present:
        findings += _about_model(report.arm, motor)
        findings += _about_hardware(motor)
        findings += _about_supply(motor)
        findings += _about_heat(motor)
        findings += _about_return_level(motor)
    findings += _about_return_delay(report.present)
    findings += _about_loss(report.present)
    findings += _about_latency(report)
    findings += _about_fast_sync_read(report)
    return problems_first([*findings, *more])


# --- who answers


def _about_presence(report: BusReport) -> Iterator[Finding]:
    missing = [motor.id for motor in report.motors if motor.model is None]
    if report.other_baud_rates:
        found = "; ".join(
            f"{_list_ids(ids)} at {baud_rate}" for baud_rate, ids in report.other_baud_rates.items()
        )
        yield problem(
            "baud_rate",
            "bus",
            f"no motor answers at {report.baud_rate} baud, but {found}",
            "set ids and baud rate with `lerobot-setup-motors` (new motors have id 1 and 57600)",
        )
    elif missing and not report.present:
        yield problem(
            "silent",
            "bus",
            "no motor answers, at no baud rate",
            "check the arm's power supply and its switch, the cable to the first motor, and that this is the "
            "arm's port (`lerobot-find-port`)",
        )
    elif missing:
        yield _about_missing(missing, report)
    for id_, model in report.strangers.items():
        yield note(
            "stranger",
            f"id {id_}",
            f"a {model_name(model)} answers that this arm does not have",
            f"if it should be {_list_ids(missing)}, set its id with `lerobot-setup-motors`"
            if missing
            else "unplug it if it is left over",
        )


def _about_missing(missing: list[int], report: BusReport) -> Finding:
    first = missing[0]
    present = [motor.id for motor in report.present]
    names = ", ".join(f"{joint_of(id_)} (id {id_})" for id_ in missing)
    verb = "does" if len(missing) == 1 else "do"
    if first > max(present):
        remedy = f"check the cable between {joint_of(first - 1)} and {joint_of(first)}, and its two plugs"
    elif len(missing) == 1:
        remedy = (
            f"check the plug of {joint_of(first)}; if its LED does not flash at power-on, the motor; or set "
            "its id with `lerobot-setup-motors`"
        )
    else:
        remedy = f"check their plugs, beginning with {joint_of(first)}; set ids with `lerobot-setup-motors`"
    return problem("missing", joint_of(first), f"{names} {verb} not answer", remedy)


def _about_model(arm: str, motor: MotorReport) -> Iterator[Finding]:
    wanted = ARMS[arm][motor.id - 1]
    if motor.model == wanted.number:
        return
    others = [name for name, models in ARMS.items() if name != arm]
    fits_other = any(
        models[motor.id - 1].number == motor.model for name, models in ARMS.items() if name != arm
    )
    yield problem(
        "model",
        joint_of(motor.id),
        f"it is a {model_name(motor.model)}, and a {arm}'s is a {wanted.name}",
        f"is this the port of the {others[0]}?"
        if fits_other
        else "build in the right motor, or set its id anew",
    )


# --- each motor


def _about_hardware(motor: MotorReport) -> Iterator[Finding]:
    status = motor.registers.get("hardware_error", 0)
    if not status:
        return
    known = hardware_errors(status)
    what = " and ".join(name for name, _ in known) or f"status {status:#04x}"
    how = "; ".join(remedy for _, remedy in known) or "see the motor's manual"
    yield problem(
        "hardware_error",
        joint_of(motor.id),
        f"hardware error: {what}; its torque stays off",
        f"{how}; then switch its power off and on",
    )


def _about_supply(motor: MotorReport) -> Iterator[Finding]:
    model = MODELS.get(motor.model or 0)
    if model is None or motor.volts is None:
        return
    where = joint_of(motor.id)
    measured = f"{motor.volts:.1f} V; a {model.name} takes {model.min_volts} V to {model.max_volts} V"
    if motor.volts > model.max_volts:
        yield problem(
            "voltage",
            where,
            f"supply of {measured}",
            f"switch off at once; feed it with {model.supply} (is the step-down converter set right?)",
        )
    elif motor.volts < model.min_volts:
        yield problem("voltage", where, f"supply of {measured}", f"feed it with {model.supply}")
    elif motor.volts < model.weak_volts:
        yield note(
            "voltage",
            where,
            f"supply of only {motor.volts:.1f} V: the motor is weak and may reset under load",
            f"feed it with {model.supply}; measure again while the arm moves (thin cables drop volts)",
        )


def _about_heat(motor: MotorReport) -> Iterator[Finding]:
    degrees, limit = motor.registers.get("temperature"), motor.registers.get("temperature_limit")
    if degrees is None or not limit:
        return
    dangerous, warm = (limit - below for below in _DEGREES_BELOW_LIMIT)
    if degrees >= warm:
        yield (problem if degrees >= dangerous else note)(
            "temperature",
            joint_of(motor.id),
            f"{degrees} °C; it switches its torque off at {limit} °C",
            "let it cool down; let the arm rest in a pose that takes no force",
        )


def _about_return_level(motor: MotorReport) -> Iterator[Finding]:
    # At level 0 a motor answers pings only, so that this register cannot be read either.
    mute = not motor.registers and motor.reads.n > 0 and not motor.reads.ms
    if motor.registers.get("status_return_level", 2) != 2 or mute:
        yield problem(
            "status_return_level",
            joint_of(motor.id),
            "it answers pings but not every request (`Status_Return_Level` must be 2)",
            "switch the arm's power off and on, or set register 68 to 2 with DYNAMIXEL Wizard",
        )


def _about_return_delay(motors: Sequence[MotorReport]) -> Iterator[Finding]:
    slow = {m.id: delay for m in motors if (delay := m.registers.get("return_delay", 0))}
    if slow:
        yield note(
            "return_delay",
            "bus",
            f"{', '.join(joint_of(id_) for id_ in slow)} wait up to {2 * max(slow.values())} µs before each "
            f"answer (`Return_Delay_Time` {max(slow.values())})",
            "connecting once with a stock CLI, such as `lerobot-teleoperate`, sets it to 0",
        )


# --- the line


def _about_loss(motors: Sequence[MotorReport]) -> Iterator[Finding]:
    """Where on the chain of cables the answers get lost."""
    n = sum(motor.reads.n for motor in motors)
    n_failed = sum(motor.reads.n_failed for motor in motors)
    lossy = [m for m in motors if m.reads.n_failed >= _MIN_LOST and m.reads.loss >= _STOCK_LIMIT]
    if not lossy:
        if n_failed:
            yield note(
                "loss",
                "bus",
                f"{n_failed} of {n} single reads got no usable answer",
                "the driver of this package makes up for that, stock LeRobot does not; if it stays, exchange "
                "the USB cable",
            )
        return
    rates = ", ".join(f"{joint_of(m.id)} {m.reads.loss:.1%}" for m in lossy)
    damaged = " Many arrive damaged." if sum(m.reads.n_damaged for m in lossy) * 2 > n_failed else ""
    mean = sum(motor.reads.loss for motor in lossy) / len(lossy)
    bad = [motor.reads.loss > mean / _CLEARLY_BETTER for motor in motors]
    first = bad.index(True)
    from_there_on = first > 0 and all(bad[first:]) and first < len(bad) - 1
    if not from_there_on and sum(bad) * 2 > len(bad):
        yield problem(
            "loss",
            "bus",
            f"answers get lost all along the chain: {rates}.{damaged}",
            "check what they share: USB cable (short, no hub), adapter board, power supply, the first "
            "motor's cable; keep motor cables away from power lines",
        )
    elif from_there_on:
        before, behind = joint_of(motors[first - 1].id), joint_of(motors[first].id)
        yield problem(
            "loss",
            behind,
            f"answers get lost from {behind} on: {rates}.{damaged}",
            f"check the cable between {before} and {behind} and its two plugs",
        )
    else:
        for motor in lossy:
            yield problem(
                "loss",
                joint_of(motor.id),
                f"{motor.reads.n_failed} of {motor.reads.n} reads of this motor got no usable answer, "
                f"of the ones behind it few",
                "check its own plugs; if the loss stays, the motor",
            )


def _about_latency(report: BusReport) -> Iterator[Finding]:
    adapter = report.adapter
    times = sorted(p50 for m in report.present if (p50 := m.reads.quantile(0.5)) is not None)
    middle = times[len(times) // 2] if times else 0.0
    timer = adapter.latency_timer_ms
    if timer is not None and timer > 1:
        yield problem(
            "latency_timer",
            "adapter",
            f"the adapter keeps bytes back for {timer} ms (an answer takes {middle:.1f} ms)",
            f"`echo 1 | sudo tee {adapter.latency_timer_path}`; for good, a udev rule: "
            'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"',
        )
    elif middle > _GATHERED_MS:
        yield problem(
            "latency_timer",
            "adapter",
            f"an answer takes {middle:.1f} ms; about 1 ms would do",
            "set the adapter's latency timer to 1 ms (Windows: device manager, the COM port's advanced "
            "settings; FTDI on macOS: its driver's property list); no USB hub in between",
        )
    else:
        p99 = report.sync_reads.quantile(0.99)
        if p99 is not None and p99 > _SLOW_SYNC_MS:
            yield note(
                "slow",
                "bus",
                f"reading all motors takes {p99:.0f} ms in the slowest hundredth of cases",
                "close other programs; plug the adapter into the computer itself",
            )


def _about_fast_sync_read(report: BusReport) -> Iterator[Finding]:
    if report.fast_sync_read_works is not False or not report.sync_reads.ms:
        return
    old = [f"{joint_of(m.id)} {m.registers['firmware']}" for m in report.present if "firmware" in m.registers]
    yield note(
        "fast_sync_read",
        "bus",
        f"the motors do not answer Fast Sync Read (firmware: {', '.join(old)})",
        "it saves a millisecond or two a frame: update their firmware with DYNAMIXEL Wizard",
    )


def _list_ids(ids: Sequence[int]) -> str:
    return ("id " if len(ids) == 1 else "ids ") + ", ".join(str(id_) for id_ in ids)
