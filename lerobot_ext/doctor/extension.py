# SPDX-License-Identifier: Apache-2.0
"""How a plugin teaches `lerobot-ext doctor` to examine something of its own, such as a robot's bus.

A plugin declares an entry point of group `lerobot_ext.doctor_checks` that names a `DoctorCheck`:

    [project.entry-points."lerobot_ext.doctor_checks"]
    koch = "lerobot_robot_koch.doctor.check:CHECK"

When its options are on the command line, the doctor runs it instead of examining the plugins. The core's own
checks are built the same way and need no entry point: the doctor must work where an installation does not.
"""

import sys
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from lerobot_ext.doctor.findings import Section
from lerobot_ext.plugins import describe_error

GROUP = "lerobot_ext.doctor_checks"


@dataclass(frozen=True)
class DoctorCheck:
    """One thing that the doctor can examine.

    Its module must be cheap to import, as that of a `Command`: `lerobot-ext doctor --help` imports all.

    Args:
        name (`str`): A word for messages and `--json`.
        configure (`Callable`): Adds options; no other check may have them. `--json`, `--all`, `--fix` and
            `--dry-run` are there already.
        applies (`Callable`): Whether the parsed arguments ask for this check.
        examine (`Callable`): Looks, changes nothing, and returns what it found, a section for each thing
            examined. A `CommandError` becomes one clear line and exit code 2.
        needs_nothing (`bool`, *optional*, defaults to `False`): Whether it can run without any option:
            `--all` runs it then.
    """

    name: str
    configure: Callable[[ArgumentParser], None]
    applies: Callable[[Namespace], bool]
    examine: Callable[[Namespace], list[Section]]
    needs_nothing: bool = False


def load_checks() -> list[DoctorCheck]:
    """The checks of all installed plugins, by name.

    A broken one is named on stderr and left out: the doctor must work where plugins do not.
    """
    checks: dict[str, DoctorCheck] = {}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            check = entry.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the plugin boundary
            _leave_out(entry, describe_error(error))
            continue
        if isinstance(check, DoctorCheck):
            checks.setdefault(check.name, check)
        else:
            _leave_out(entry, f"`{entry.value}` is {type(check).__name__}, not a DoctorCheck")
    return list(checks.values())


def add_options(parser: ArgumentParser, checks: list[DoctorCheck]) -> None:
    """Let each check add its options; one whose options are taken is named on stderr and gets none."""
    for check in checks:
        try:
            check.configure(parser)
        except ArgumentError as error:
            sys.stderr.write(f"lerobot-ext doctor: check {check.name!r} is left out: {error}\n")


def _leave_out(entry: metadata.EntryPoint, why: str) -> None:
    owner = entry.dist.name if entry.dist else "an unknown distribution"
    sys.stderr.write(f"lerobot-ext doctor: check {entry.name!r} of {owner} is left out: {why}\n")
