# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor` says what is wrong and what to do; `lerobot-ext plugins` lists the plugins."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option
from lerobot_ext.doctor import cameras, checkpoint, dataset, gpu, recording, serial_ports, video
from lerobot_ext.doctor.extension import DoctorCheck, add_options, load_checks
from lerobot_ext.doctor.findings import Section, as_json

if TYPE_CHECKING:
    from rich.console import Console

    from lerobot_ext.doctor.plugins import Examination

EXIT_PROBLEMS = 1
MANUAL = "docs/doctor.md"


# --- the plugins


def _examine_environment() -> "Examination":
    """Look at the environment, with something moving meanwhile: LeRobot takes seconds to import."""
    from lerobot_ext.cli.look import console
    from lerobot_ext.doctor.plugins import examine

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


def _examine_plugins(args: Namespace) -> list[Section]:
    found = _examine_environment()
    return [
        Section(
            check="plugins",
            subject="this environment",
            findings=found.findings,
            facts={"lerobot": found.lerobot, "lerobot_ext": found.lerobot_ext, "plugins": found.rows},
            show=lambda out: _show_table(out, found),
        )
    ]


def _configure_plugins(parser: ArgumentParser) -> None:
    parser.add_argument("--plugins", action="store_true", help="examine the plugins (the default)")


_PLUGINS_CHECK = DoctorCheck(
    name="plugins",
    configure=_configure_plugins,
    applies=lambda args: bool(args.plugins),
    examine=_examine_plugins,
    needs_nothing=True,
)

CORE_CHECKS = [
    _PLUGINS_CHECK,
    video.CHECK,
    recording.CHECK,
    gpu.CHECK,
    cameras.CHECK,
    serial_ports.CHECK,
    checkpoint.CHECK,
    dataset.CHECK,
]
# What a bare `lerobot-ext doctor` runs: the checks that take a few seconds and touch no device.
_BY_DEFAULT = ("plugins", "video", "gpu")


def _run_plugins(args: Namespace) -> int:
    """List the plugins."""
    from lerobot_ext.cli.look import console, write_json

    found = _examine_environment()
    if args.json:
        write_json({"lerobot": found.lerobot, "lerobot_ext": found.lerobot_ext, "plugins": found.rows})
        return 0
    out = console()
    _show_table(out, found)
    if not found.ok:
        out.print("`lerobot-ext doctor` says what is wrong and what to do.", markup=False)
    return 0


# --- the doctor


def all_checks() -> list[DoctorCheck]:
    """The core's checks and those of the plugins; the core's names win."""
    mine = {check.name for check in CORE_CHECKS}
    return [*CORE_CHECKS, *(check for check in load_checks() if check.name not in mine)]


def _run_doctor(args: Namespace) -> int:
    """Examine what the options name, else the plugins, video backends and GPU; mend what may be mended."""
    if args.dry_run and not args.fix:
        raise CommandError("--dry-run goes with --fix", "add `--fix`, or leave `--dry-run` out")
    checks = _asked_for(args)
    sections = [section for check in checks for section in check.examine(args)]
    fixed = _fix(sections, dry_run=args.dry_run) if args.fix else []
    before = sections
    if any(entry["done"] for entry in fixed):
        sections = [section for check in checks for section in check.examine(args)]
    _report(sections, fixed, before, args)
    return 0 if all(section.ok for section in sections) else EXIT_PROBLEMS


def _asked_for(args: Namespace) -> list[DoctorCheck]:
    checks = all_checks()
    wanted = [check for check in checks if check.applies(args) or (args.all and check.needs_nothing)]
    return wanted or [check for check in checks if check.name in _BY_DEFAULT]


def _fix(sections: list[Section], *, dry_run: bool) -> list[dict[str, Any]]:
    """Carry out the fixes that findings name, each once; what was done, or would be."""
    done = []
    for section in sections:
        named = {finding.fix for finding in section.findings if finding.fix}
        for fix in section.fixes:
            if fix.name not in named:
                continue
            entry = {"fix": fix.name, "subject": section.subject, "done": False, "what": fix.what}
            if not dry_run:
                try:
                    entry |= {"what": fix.apply(), "done": True}
                except CommandError as error:
                    entry |= {"what": f"not done: {error}", "remedy": error.remedy}
            done.append(entry)
    return done


def _report(
    sections: list[Section], fixed: list[dict[str, Any]], before: list[Section], args: Namespace
) -> None:
    from lerobot_ext.cli.look import console, write_json

    if args.json:
        write_json(as_json(sections, fixed))
        return
    out = console()
    for section in sections:
        _show(out, section)
    for entry in fixed:
        word = "fixed" if entry["done"] else "would fix" if args.dry_run else "not fixed"
        out.print(f"{word}: {entry['subject']}: {entry['what']}", markup=False)
        if entry.get("remedy"):
            out.print(f"  remedy: {entry['remedy']}", markup=False)
    _summarize(out, sections, args)


def _show(out: "Console", section: Section) -> None:
    """What was measured, then the findings."""
    if section.show is not None:
        section.show(out)
    elif section.lines:
        out.print(printable(f"{section.check}: {section.subject}"), style="bold", markup=False)
        for line in section.lines:
            out.print(printable(f"  {line}"), markup=False)
    for finding in section.findings:
        out.print(printable(f"{finding.level}: {finding.subject}: {finding.message}"), markup=False)
        out.print(printable(f"  remedy: {finding.remedy}"), markup=False)


def printable(text: str) -> str:
    """`text` without what could steer a terminal: names come from files that a stranger may have written."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _summarize(out: "Console", sections: list[Section], args: Namespace) -> None:
    problems = sum(finding.level == "problem" for section in sections for finding in section.findings)
    out.print(
        f"\n{problems} problem{'s' if problems != 1 else ''} found." if problems else "\nNo problem found."
    )
    fixable = {finding.fix for section in sections for finding in section.findings if finding.fix}
    if fixable and not args.fix:
        out.print("`--fix` mends what can be mended safely; `--fix --dry-run` says what it would do.")


def _configure(parser: ArgumentParser) -> None:
    add_json_option(parser)


def _configure_doctor(parser: ArgumentParser) -> None:
    add_json_option(parser)
    parser.description = (
        f"{DOCTOR.summary}\nExit codes: 0 no problem, 1 a problem, 2 wrong usage. {MANUAL} lists all "
        "findings."
    )
    parser.add_argument("--all", action="store_true", help="everything that needs no argument")
    parser.add_argument(
        "--fix", action="store_true", help="mend what is safe to mend, with a backup or into a new folder"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --fix: only say what would be done")
    add_options(parser, all_checks())


PLUGINS = Command(
    name="plugins",
    summary="List the installed LeRobot plugins and what each registers.",
    example="lerobot-ext plugins",
    configure=_configure,
    run=_run_plugins,
)

DOCTOR = Command(
    name="doctor",
    summary=(
        "Find out what is wrong with plugins, a checkpoint, a dataset, video, cameras, ports, the GPU or an "
        "arm's bus."
    ),
    example="lerobot-ext doctor --policy.path=outputs/lift/checkpoints/last/pretrained_model",
    configure=_configure_doctor,
    run=_run_doctor,
)
