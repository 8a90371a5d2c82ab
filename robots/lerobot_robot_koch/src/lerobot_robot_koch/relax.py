# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext relax` cuts the torque of every motor on a port, for an arm that was left holding."""

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Final

from lerobot_ext.cli.command import Command, CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lerobot_robot_koch.doctor.raw_bus import RawBus

_TORQUE_ENABLE: Final = 64
_N_BROADCASTS: Final = 3
_N_TRIES: Final = 20
"""Tries for each motor: no motor is left on because of lost packets, even at one in three."""


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--port", required=True, help="the arm's serial port")
    parser.add_argument("--yes", action="store_true", help="do not ask; the arm falls if nobody holds it")


def _run(args: Namespace) -> int:
    """Cut the torque; 1 when a motor has not confirmed."""
    from lerobot_ext.cli.look import console
    from lerobot_ext.doctor.adapter import other_programs
    from lerobot_robot_koch.doctor.expected import joint_of
    from lerobot_robot_koch.doctor.measure import IDS
    from lerobot_robot_koch.doctor.raw_bus import RawBus

    others = other_programs(args.port)
    if others:
        raise CommandError(f"port {args.port!r} is in use by {', '.join(others)}", "end that program first")
    out = console()
    with RawBus(args.port) as bus:
        _confirm(args)
        confirmed = relax(bus, IDS)
    for id_, off in confirmed.items():
        words = "torque off" if off else "NOT CONFIRMED: it may hold on, or is not there"
        out.print(f"id {id_} ({joint_of(id_)}): {words}", markup=False)
    if all(confirmed.values()):
        return 0
    out.print(
        "Hold the arm and switch its power off, or check the cable to the first motor that is not confirmed.",
        markup=False,
    )
    return 1


def relax(bus: "RawBus", ids: "Sequence[int]") -> dict[int, bool]:
    """Cut the torque of every motor, and ask each of `ids` whether it did.

    All are told at once first: whatever keeps one motor from answering keeps no other one stiff.

    Args:
        bus (`RawBus`): The bus.
        ids (`Sequence[int]`): Motors that should be there.

    Returns:
        `dict[int, bool]`: Whether the motor's own register says that its torque is off.
    """
    from lerobot_robot_koch.doctor.raw_bus import BROADCAST_ID

    for _ in range(_N_BROADCASTS):
        bus.write_unheard(BROADCAST_ID, _TORQUE_ENABLE, b"\0")
    return {id_: _confirmed_off(bus, id_) for id_ in ids}


def _confirmed_off(bus: "RawBus", id_: int) -> bool:
    for _ in range(_N_TRIES):
        answer = bus.read(id_, _TORQUE_ENABLE, 1)
        if answer.ok and answer.data == b"\0":
            return True
        # Heard or not, the next reading decides.
        bus.write(id_, _TORQUE_ENABLE, b"\0")
    return False


def _confirm(args: Namespace) -> None:
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("there is nobody to ask whether the arm may fall", "add --yes")
    sys.stderr.write(f"The arm on {args.port} falls when its torque is cut. Hold it, then press ENTER … ")
    sys.stderr.flush()
    if not sys.stdin.readline():
        raise CommandError("not confirmed", "add --yes, or press ENTER when asked")


RELAX = Command(
    name="relax",
    summary="Cut the torque of every motor on a port, for a Koch that was left holding.",
    example="lerobot-ext relax --port=/dev/ttyACM0",
    configure=_configure,
    run=_run,
)
