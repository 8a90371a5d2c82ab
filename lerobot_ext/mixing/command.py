# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext mix FILE`: what a dataset spec file amounts to, before anything is trained."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from lerobot_ext.mixing.survey import Mix

PICTURES = (".png", ".svg", ".pdf")


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a dataset spec: .yaml, .yml or .json")
    parser.add_argument(
        "--init",
        nargs="+",
        metavar="DATASET",
        help="write FILE, with comments, for these datasets (names or folders)",
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw frames and draws of each dataset")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.mixing.spec import SUFFIXES, SpecError

    if args.file.suffix.lower() not in SUFFIXES:
        raise CommandError(f"{args.file} is of no known format", f"end it in {', '.join(SUFFIXES)}")
    if args.plot is not None and args.plot.suffix.lower() not in PICTURES:
        raise CommandError(f"--plot {args.plot} is of no known format", f"end it in {', '.join(PICTURES)}")
    if args.init:
        _write(args.file, args.init)
    # Imported here, as below: LeRobot's datasets take seconds to import.
    from lerobot_ext.mixing.survey import survey

    try:
        mix = survey(args.file)
    except SpecError as error:
        return _say_problems(args, error)
    return _say(args, mix)


def _write(file: Path, names: list[str]) -> None:
    from lerobot_ext.mixing.init import commented_spec

    try:
        with file.open("x", encoding="utf-8") as sink:
            sink.write(commented_spec(names, file))
    except FileExistsError:
        raise CommandError(f"{file} is there already", "name another file, or delete it first") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error}", "name another file") from None


def _say_problems(args: Namespace, error: ValueError) -> int:
    """A file that could not even be surveyed."""
    from lerobot_ext.cli.look import console, write_json

    if args.json:
        problems = getattr(error, "problems", [])
        write_json({"file": args.file.resolve(), "problems": problems})
    else:
        console().print(str(error), markup=False)
    return 1


def _say(args: Namespace, mix: "Mix") -> int:
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.mixing import report

    if args.plot is not None and mix.parts:
        _plot(args.plot, mix)
    if args.json:
        write_json(report.as_json(mix))
    else:
        report.show(mix, console())
        if args.plot is not None and mix.parts:
            console().print(f"wrote {args.plot}", markup=False)
    return 1 if mix.problems else 0


def _plot(file: Path, mix: "Mix") -> None:
    from lerobot_ext.missing import require

    require("matplotlib", "plot")
    from lerobot_ext.mixing.report import draw

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draw(mix).savefig(file, dpi=120)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error}", "name another file with --plot") from None


MIX = Command(
    name="mix",
    summary="show what a dataset spec file mixes for lerobot-train, and what is wrong with it",
    example="lerobot-ext mix mix.yaml --init me/koch_lift me/koch_reach",
    configure=_configure,
    run=_run,
)
