# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext guard`: would the plugins survive another LeRobot?"""

import shutil
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from lerobot_ext.guard.report import Report

_RULE_LIMIT_S = 120.0


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "distribution", metavar="DIST", nargs="*", help="installed plugins to guard; all that are there"
    )
    parser.add_argument(
        "--against",
        metavar="LEROBOT",
        help="a version (0.7.0), a requirement ('lerobot>=0.7.0rc1'), `main`, a git URL, a folder or wheel",
    )
    parser.add_argument(
        "--python",
        type=Path,
        metavar="PYTHON",
        help="instead of making an environment use that of this interpreter; LeRobot and plugins are there",
    )
    parser.add_argument(
        "--baseline-python",
        type=Path,
        metavar="PYTHON",
        help="compare with the environment of this interpreter; by default with this one",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="make the environment here and leave it there"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the report as Markdown")
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        default=_RULE_LIMIT_S,
        help="how long one rule may take (%(default)g)",
    )
    add_json_option(parser)


def _run(args: Namespace) -> int:
    """Compare; 1 when something breaks, 2 when it could not be found out."""
    _refuse_senseless(args)
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.guard.report import as_json, as_markdown, show

    report = _compare(args)
    if args.report is not None:
        try:
            args.report.write_text(as_markdown(report), encoding="utf-8")
        except OSError as error:
            raise CommandError(
                f"cannot write --report {args.report}: {error}", "give another FILE"
            ) from error
    if args.json:
        write_json(as_json(report))
    else:
        show(console(), report)
    return 0 if report.comparison.ok else 1


def _refuse_senseless(args: Namespace) -> None:
    """What can be seen to be wrong before anything is installed."""
    if bool(args.against) == bool(args.python):
        raise CommandError(
            "give either --against, or --python" + ("" if args.against else "; neither is there"),
            "for example `lerobot-ext guard --against main`",
        )
    if args.timeout <= 0:
        raise CommandError(f"--timeout {args.timeout:g} leaves no time", "give seconds, such as 120")
    for option in ("python", "baseline_python"):
        path = getattr(args, option)
        if path is not None and not path.is_file():
            raise CommandError(
                f"--{option.replace('_', '-')} {path} is not there", "give the interpreter of an environment"
            )
    if args.keep is not None and args.python is not None:
        raise CommandError("--keep has nothing to keep with --python", "leave one of them out")
    if args.keep is not None and args.keep.exists() and any(args.keep.iterdir()):
        raise CommandError(f"--keep {args.keep} is not empty", "give another folder, or delete it")
    if args.report is not None and not args.report.absolute().parent.is_dir():
        raise CommandError(
            f"--report {args.report}: its folder is not there", "make it, or give another FILE"
        )


def _compare(args: Namespace) -> "Report":
    """Make the environment, look at both, compare."""
    import sys

    from lerobot_ext.cli.look import console
    from lerobot_ext.guard.compare import compare
    from lerobot_ext.guard.environment import make_environment, window_notes
    from lerobot_ext.guard.facts import collect
    from lerobot_ext.guard.plugins import installed_plugins, needs_of
    from lerobot_ext.guard.report import Report
    from lerobot_ext.guard.target import parse_target

    plugins = installed_plugins(args.distribution)
    target = parse_target(args.against) if args.against else None
    needs = needs_of(plugins)
    baseline = args.baseline_python or Path(sys.executable)
    notes: list[str] = []
    with console(stderr=True).status("") as status, _folder(args.keep) as folder:
        status_of = status.update
        python = args.python
        if target is not None:
            python, notes = make_environment(folder, target, needs, status_of)
        # Made absolute, not resolved: an environment's interpreter is a link, and what it links to has none.
        after = collect(
            python.absolute(),
            plugins,
            args.timeout,
            lambda what: status_of(f"with the other LeRobot: {what}"),
        )
        before = collect(
            baseline.absolute(), plugins, args.timeout, lambda what: status_of(f"baseline: {what}")
        )
    notes += window_notes(needs, after.versions.get("lerobot", "0"))
    return Report(args.against or str(args.python), plugins, before, after, compare(before, after), notes)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where the environment is made: the user's folder, or one that goes away."""
    if keep is not None:
        yield keep
        return
    folder = Path(tempfile.mkdtemp(prefix="lerobot_ext_guard_"))
    try:
        yield folder / "environment"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


GUARD = Command(
    name="guard",
    summary="Find out what another LeRobot would break: installs it beside the plugins and runs the kit.",
    example="lerobot-ext guard lerobot_policy_hierarchical_diffusion --against main --report report.md",
    configure=_configure,
    run=_run,
)
