# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext plugins` lists the installed plugins; `lerobot-ext doctor` says what is wrong with them."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from lerobot_ext.cli.command import Command
from lerobot_ext.cli.look import add_json_option
from lerobot_ext.doctor.extension import add_options, load_checks

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
    """Examine what the options name, else the plugins."""
    asked_for = [check for check in load_checks() if check.applies(args)]
    if asked_for:
        return max(check.run(args) for check in asked_for)
    return _examine_plugins(args)


def _examine_plugins(args: Namespace) -> int:
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


def _configure_doctor(parser: ArgumentParser) -> None:
    add_json_option(parser)
    add_options(parser, load_checks())


PLUGINS = Command(
    name="plugins",
    summary="List the installed LeRobot plugins and what each registers.",
    example="lerobot-ext plugins",
    configure=_configure,
    run=_run_plugins,
)

DOCTOR = Command(
    name="doctor",
    summary="Find out why a plugin is missing or broken, or what ails an arm's bus; exits with 1 if so.",
    example="lerobot-ext doctor --json",
    configure=_configure_doctor,
    run=_run_doctor,
)
