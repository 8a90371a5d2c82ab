# SPDX-License-Identifier: Apache-2.0
"""Prints a bus report for people and as plain values for `--json`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lerobot_robot_koch.doctor.expected import joint_of, model_name
from lerobot_robot_koch.doctor.measure import BusReport, MotorReport, RoundTrips

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = ("id", "joint", "model", "firmware", "V", "°C", "torque", "lost", "p50 ms", "p99 ms")


def as_json(report: BusReport) -> dict[str, Any]:
    """Everything that was measured, as plain values."""
    fast = report.fast_sync_reads
    return {
        "arm": report.arm,
        "port": report.port,
        "adapter": asdict(report.adapter),
        "baud_rate": report.baud_rate,
        "other_baud_rates": report.other_baud_rates,
        "strangers": report.strangers,
        "motors": [
            {
                "id": motor.id,
                "joint": joint_of(motor.id),
                "model_number": motor.model,
                "model": model_name(motor.model),
                "volts": motor.volts,
                **{name: value for name, value in motor.registers.items() if name != "decivolts"},
                "reads": motor.reads.summary(),
            }
            for motor in report.motors
        ],
        "sync_reads": report.sync_reads.summary(),
        "fast_sync_read": report.fast_sync_read_works,
        "fast_sync_reads": fast.summary() if fast is not None else None,
    }


def show(out: "Console", report: BusReport) -> None:
    """Print what was measured."""
    from lerobot_ext.cli.look import table

    out.print(f"{report.arm} on {report.port}", style="bold", markup=False)
    out.print(_about_adapter(report), markup=False)
    out.print(table("", _COLUMNS, [_row(motor) for motor in report.motors]))
    out.print(f"sync read of all motors: {_times(report.sync_reads)}", markup=False)
    if report.fast_sync_reads is None:
        out.print("fast sync read: not tried (the installed dynamixel-sdk is older than 3.8.2)")
    elif report.fast_sync_read_works:
        out.print(f"fast sync read: {_times(report.fast_sync_reads)}", markup=False)
    else:
        out.print("fast sync read: not answered")


def _about_adapter(report: BusReport) -> str:
    adapter = report.adapter
    parts = [adapter.name or "no USB adapter", adapter.usb_id, f"{report.baud_rate} baud"]
    if adapter.latency_timer_ms is not None:
        parts.append(f"latency timer {adapter.latency_timer_ms} ms")
    if adapter.low_latency is not None:
        parts.append(f"low-latency flag {'on' if adapter.low_latency else 'off'}")
    return ", ".join(part for part in parts if part)


def _row(motor: MotorReport) -> tuple[str, ...]:
    if motor.model is None:
        return (str(motor.id), joint_of(motor.id), "does not answer", *[""] * (len(_COLUMNS) - 3))
    registers = motor.registers
    return (
        str(motor.id),
        joint_of(motor.id),
        model_name(motor.model),
        str(registers.get("firmware", "?")),
        "?" if motor.volts is None else f"{motor.volts:.1f}",
        str(registers.get("temperature", "?")),
        {0: "off", 1: "on"}.get(registers.get("torque", -1), "?"),
        f"{motor.reads.n_failed} of {motor.reads.n}",
        _ms(motor.reads.quantile(0.5)),
        _ms(motor.reads.quantile(0.99)),
    )


def _times(trips: RoundTrips) -> str:
    return (
        f"p50 {_ms(trips.quantile(0.5))} ms, p99 {_ms(trips.quantile(0.99))} ms, "
        f"{trips.n_failed} of {trips.n} incomplete"
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
