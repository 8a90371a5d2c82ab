# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext pull --policy.path=USER/REPO`: says what a checkpoint needs, gets it, checks it."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from lerobot_ext.hub.derive import Unknown
    from lerobot_ext.hub.pull import Remote
    from lerobot_ext.hub.requirements import Requirements, Shortfall

EXIT_PACKAGES = 3


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--policy.path",
        dest="path",
        required=True,
        metavar="USER/REPO",
        help="repository on the Hub, or a folder of this machine, which is checked",
    )
    parser.add_argument("--revision", help="branch, tag or commit (default: main)")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="folder for the files (default: the Hub's cache)"
    )
    parser.add_argument("--anyway", action="store_true", help="get the files although packages are missing")
    parser.add_argument(
        "--strict", action="store_true", help="take another version of a package for a missing one"
    )
    add_json_option(parser)


def _run(args: Namespace) -> int:
    """Read what it needs, compare, get it, check it, say how to run it."""
    from lerobot_ext.hub.checkpoint import CheckpointError, read_config

    local = Path(args.path).expanduser()
    remote: Remote | None = None
    if local.is_dir():
        folder = _local(args, local)
    else:
        remote, folder = _described(args)
    try:
        config = read_config(folder)
        needs, unknown = _requirements(folder)
    except (CheckpointError, ValueError) as error:
        raise CommandError(str(error), getattr(error, "remedy", "get the checkpoint again")) from error
    from lerobot_ext.hub.requirements import shortfalls

    short = shortfalls(needs.packages)
    blocking = [entry for entry in short if entry.kind == "missing" or args.strict]
    blocked = bool(blocking or unknown)
    report = _report(args, needs, short, unknown)
    if remote is not None and (not blocked or args.anyway):
        folder = _fetched(remote, args.to)
    whole = remote is None or not blocked or args.anyway
    if whole:
        _check(folder, args.path)
        report |= {"folder": str(folder), "commands": _commands(config, needs, folder)}
    if remote is not None:
        report |= {"commit": remote.commit, "bytes": remote.size}
    _show(args, report, needs, short, unknown, whole=whole)
    return EXIT_PACKAGES if blocked else 0


def _local(args: Namespace, folder: Path) -> Path:
    from lerobot_ext.hub.checkpoint import CheckpointError, find_checkpoint

    if args.to is not None or args.revision is not None:
        raise CommandError(
            f"{folder} is a folder of this machine", "leave --to and --revision out: it is only checked"
        )
    try:
        return find_checkpoint(folder)
    except CheckpointError as error:
        raise CommandError(str(error), error.remedy) from error


def _described(args: Namespace) -> "tuple[Remote, Path]":
    """The repository, and a folder with the small files that describe it."""
    from lerobot_ext.hub.pull import PullError, fetch_descriptions, look_up

    if args.to is not None:
        _check_target(args.to.expanduser())
    try:
        remote = look_up(args.path, args.revision)
        return remote, fetch_descriptions(remote)
    except PullError as error:
        raise CommandError(str(error), error.remedy) from error


def _check_target(folder: Path) -> None:
    """Refuse to write over what is not an earlier pull.

    Raises:
        CommandError: There is something else.
    """
    if folder.is_file():
        raise CommandError(f"--to: {folder} is a file", "name a folder; it is made when missing")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ".cache" / "huggingface").is_dir():
        raise CommandError(
            f"--to: {folder} holds other files", "name a new or empty folder, or an earlier pull"
        )


def _requirements(folder: Path) -> "tuple[Requirements, list[Unknown]]":
    from lerobot_ext.hub.derive import derive
    from lerobot_ext.hub.requirements import FILE_NAME, read_requirements

    if (folder / FILE_NAME).exists():
        return read_requirements(folder / FILE_NAME), []
    return derive(folder)


def _fetched(remote: "Remote", to: Path | None) -> Path:
    from lerobot_ext.hub.pull import PullError, fetch

    try:
        return fetch(remote, to.expanduser() if to is not None else None)
    except PullError as error:
        raise CommandError(str(error), error.remedy) from error


def _check(folder: Path, source: str) -> None:
    """Refuse files that cannot be loaded.

    Raises:
        CommandError: Something is missing or broken.
    """
    from lerobot_ext.hub.checkpoint import examine

    problems = examine(folder, source)
    if problems:
        raise CommandError(
            f"the checkpoint in {folder} is not whole: " + "; ".join(map(str, problems)), problems[0].remedy
        )


def _commands(config: dict[str, Any], needs: "Requirements", folder: Path) -> list[str]:
    import shlex

    from lerobot_ext.hub.card import run_commands

    return run_commands(config, needs, shlex.quote(str(folder)))


def _report(
    args: Namespace, needs: "Requirements", short: "list[Shortfall]", unknown: "list[Unknown]"
) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "path": args.path,
        "policy": needs.policy,
        "packages": [package.to_json() for package in needs.packages],
        "missing": [entry.package.name for entry in short if entry.kind == "missing"],
        "other_version": [
            {"name": entry.package.name, "installed": entry.installed, "needed": entry.package.version}
            for entry in short
            if entry.kind == "version"
        ],
        "unknown": [str(entry) for entry in unknown],
        "install": _install(short, unknown),
    }


def _install(short: "list[Shortfall]", unknown: "list[Unknown]") -> str:
    """The `pip install` line that makes up for everything that is known; empty when nothing is."""
    from lerobot_ext.hub.derive import packages_of
    from lerobot_ext.hub.requirements import install_line

    packages = [entry.package for entry in short] + packages_of(unknown)
    return install_line(packages) if packages else ""


def _show(
    args: Namespace,
    report: dict[str, Any],
    needs: "Requirements",
    short: "list[Shortfall]",
    unknown: "list[Unknown]",
    *,
    whole: bool,
) -> None:
    from lerobot_ext.cli.look import console, table, write_json

    if args.json:
        write_json(report)
        return
    states = {entry.package.name: entry for entry in short}
    rows = []
    for package in needs.packages:
        entry = states.get(package.name)
        here = "yes" if entry is None else (entry.installed or "MISSING")
        rows.append((package.name, package.version, here, _in_short(package.provides)))
    out = console()
    out.print(
        table(f"{args.path}: policy {needs.policy}", ["package", "made with", "here", "provides"], rows)
    )
    for line in (*map(str, unknown), *(f"no package provides {part}" for part in needs.unpackaged)):
        out.print(line, markup=False)
    if report["install"]:
        out.print(
            "Nothing is installed by this command. To have what the checkpoint was made with:", markup=False
        )
        out.print(f"  {report['install']}", markup=False)
    if not whole:
        out.print("No file was downloaded; --anyway gets them all the same.", markup=False)
        return
    out.print(f"Whole, in {report['folder']}. To run it:", markup=False)
    for command in report["commands"]:
        out.print(f"\n{command}", markup=False)


def _in_short(provides: tuple[str, ...]) -> str:
    """What a package provides, processor steps only counted when there are many."""
    steps = [part for part in provides if part.startswith("step ")]
    if len(steps) <= 2:
        return ", ".join(provides)
    others = [part for part in provides if not part.startswith("step ")]
    return ", ".join([*others, f"{len(steps)} processor steps"])


PULL = Command(
    name="pull",
    summary="Say what a checkpoint on the Hub needs, get it and check it; installs nothing.",
    example="lerobot-ext pull --policy.path=user/repo --to=lift",
    configure=_configure,
    run=_run,
)
