# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor --robot.type=koch_follower --robot.port=…`: what ails an arm's bus."""

from argparse import ArgumentParser, Namespace
from typing import Final

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor.extension import DoctorCheck
from lerobot_ext.doctor.findings import Section

# Repeated from `expected.ARMS`, which `--help` need not import; a test compares.
_ARMS: Final = {"robot": "koch_follower", "teleop": "koch_leader"}
_SECONDS: Final = 5.0


def _configure(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a Koch's bus",
        "Examine the bus of an arm or both; it only reads, so the arm may hold.\n"
        "example: lerobot-ext doctor --robot.type=koch_follower --robot.port=/dev/ttyACM0",
    )
    for role, type_ in _ARMS.items():
        group.add_argument(f"--{role}.type", choices=(type_, f"{type_}_stock"), help="as for the stock CLIs")
        group.add_argument(f"--{role}.port", metavar="PORT", help="its serial port")
        group.add_argument(f"--{role}.id", metavar="ID", help="its name: then its calibration is checked too")
        group.add_argument(f"--{role}.calibration_dir", metavar="DIR", help="where that is, if not as usual")
    group.add_argument(
        "--seconds", type=float, default=_SECONDS, help=f"time for each arm (default {_SECONDS:g})"
    )


def _given(args: Namespace, role: str) -> bool:
    return any(getattr(args, f"{role}.{name}") is not None for name in ("type", "port"))


def _applies(args: Namespace) -> bool:
    return any(_given(args, role) for role in _ARMS)


def _examine(args: Namespace) -> list[Section]:
    """Report on the arms that the options name."""
    if not 1 <= args.seconds <= 600:
        raise CommandError(f"--seconds is {args.seconds:g}", "give 1 to 600; the default is 5")
    # All words are looked at before any bus.
    arms = {role: _arm(args, role) for role in _ARMS if _given(args, role)}
    return [_examine_arm(args, role, arm, port) for role, (arm, port) in arms.items()]


def _arm(args: Namespace, role: str) -> tuple[str, str]:
    """The arm's type and port that the options of `role` name."""
    type_, port = getattr(args, f"{role}.type"), getattr(args, f"{role}.port")
    if type_ is None:
        raise CommandError(f"--{role}.port needs --{role}.type", f"add `--{role}.type={_ARMS[role]}`")
    if port is None:
        from lerobot_robot_koch.ports import existing_ports

        ports = ", ".join(existing_ports("/dev/none")) or "none; is the arm plugged in?"
        raise CommandError(f"--{role}.type needs --{role}.port", f"ports on this machine: {ports}")
    return _ARMS[role], port


def _examine_arm(args: Namespace, role: str, arm: str, port: str) -> Section:
    from lerobot_ext.cli.look import progress
    from lerobot_ext.doctor.adapter import other_programs
    from lerobot_robot_koch.doctor.calibration import about_calibration, calibration_path
    from lerobot_robot_koch.doctor.conclude import conclude
    from lerobot_robot_koch.doctor.measure import measure
    from lerobot_robot_koch.doctor.raw_bus import RawBus
    from lerobot_robot_koch.doctor.show import as_json, show

    id_, folder = getattr(args, f"{role}.id"), getattr(args, f"{role}.calibration_dir")
    path = calibration_path(arm, id_, folder) if id_ else None
    others = other_programs(port)
    if others:
        # Two readers of one port steal each other's answers; this one would end the other's recording.
        raise CommandError(f"port {port!r} is in use by {', '.join(others)}", "end that program first")
    with RawBus(port) as bus, progress() as bar:
        task = bar.add_task(f"Listening to {arm} on {port}", total=100)
        report = measure(arm, bus, args.seconds, lambda share: bar.update(task, completed=round(100 * share)))
    return Section(
        check="koch",
        subject=f"{arm} on {port}",
        findings=conclude(report, about_calibration(report, path) if path else []),
        facts=as_json(report),
        show=lambda out: show(out, report),
    )


CHECK = DoctorCheck(name="koch", configure=_configure, applies=_applies, examine=_examine)
