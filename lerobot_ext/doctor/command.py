# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext plugins` lists the installed plugins; `lerobot-ext doctor` says what is wrong with them."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from lerobot_ext.cli.command import Command
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from rich.console import Console

    from lerobot_ext.doctor.checks import Examination


def _examine() -> "Examination":
    """Look at the environment, with something moving meanwhile: LeRobot takes seconds to import."""
    from lerobot_ext.cli.look import console
    from lerobot_ext.doctor.checks import examine

    with console(stderr=True).status("Importing LeRobot and every plugin in a process of its own …"):
        return examine()


def _show_table(out: "Console", found: "Examination") -> None:
    from lerobot_ext.cli.look import table

    rows = [
        (row.name, row.version, row.loaded_by, "\n".join(row.registers) or "-", row.status)
        for row in found.rows
    ]
    out.print(f"LeRobot {found.lerobot}, lerobot_ext {found.lerobot_ext}")
    out.print(table("", ["plugin", "version", "loaded by", "registers", "status"], rows))


def _run_plugins(args: Namespace) -> int:
    """List the plugins."""
    from lerobot_ext.cli.look import console, write_json

    found = _examine()
    if args.json:
        write_json({"lerobot": found.lerobot, "lerobot_ext": found.lerobot_ext, "plugins": found.rows})
        return 0
    out = console()
    _show_table(out, found)
    if not found.ok:
        out.print("`lerobot-ext doctor` says what is wrong and what to do.", markup=False)
    return 0


def _run_doctor(args: Namespace) -> int:
    """Report; 1 when there is a problem."""
    from lerobot_ext.cli.look import console, write_json

    found = _examine()
    if args.json:
        write_json(
            {
                "ok": found.ok,
                "lerobot": found.lerobot,
                "lerobot_ext": found.lerobot_ext,
                "plugins": found.rows,
                "findings": found.findings,
            }
        )
        return 0 if found.ok else 1
    out = console()
    _show_table(out, found)
    for finding in found.findings:
        out.print(f"{finding.level}: {finding.distribution}: {finding.message}", markup=False)
        out.print(f"  remedy: {finding.remedy}", markup=False)
    problems = sum(finding.level == "problem" for finding in found.findings)
    out.print(
        f"\n{problems} problem{'s' if problems != 1 else ''} found." if problems else "No problem found."
    )
    return 0 if found.ok else 1


def _configure(parser: ArgumentParser) -> None:
    add_json_option(parser)


PLUGINS = Command(
    name="plugins",
    summary="List the installed LeRobot plugins and what each registers.",
    example="lerobot-ext plugins",
    configure=_configure,
    run=_run_plugins,
)

DOCTOR = Command(
    name="doctor",
    summary="Find out why a plugin is missing or broken; exits with 1 on a problem.",
    example="lerobot-ext doctor --json",
    configure=_configure,
    run=_run_doctor,
)
