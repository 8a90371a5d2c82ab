# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext from-act` and `lerobot-ext presets`. Cheap to import: no torch, no LeRobot."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from contextlib import redirect_stdout
from pathlib import Path

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

PRESET_FOLDER = Path(__file__).with_name("presets")


def presets() -> dict[str, Path]:
    """The presets' files by name."""
    return {path.stem: path for path in sorted(PRESET_FOLDER.glob("*.yaml"))}


def _configure_presets(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="print only this one's file; for --config_path")
    add_json_option(parser)


def _run_presets(args: Namespace) -> int:
    from lerobot_ext.cli.look import console, write_json

    known = presets()
    if args.name is None:
        found = {
            name: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
            for name, path in known.items()
        }
        if args.json:
            write_json({name: {"file": str(known[name]), "what": what} for name, what in found.items()})
            return 0
        for name, what in found.items():
            console().print(f"{name:<14}{what}", highlight=False, soft_wrap=True)
        return 0
    if args.name not in known:
        raise CommandError(f"there is no preset {args.name!r}", f"choose one of {', '.join(known)}")
    if args.json:
        write_json({args.name: {"file": str(known[args.name])}})
    else:
        print(known[args.name])  # noqa: T201 - for a shell's $(…), without a console's line breaks
    return 0


PRESETS = Command(
    name="presets",
    summary="List act_plus's presets, or print the file of one for lerobot-train --config_path.",
    example='lerobot-train --config_path="$(lerobot-ext presets act_rtc)" --dataset.repo_id=user/data',
    configure=_configure_presets,
    run=_run_presets,
)


def _configure_from_act(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", help="pretrained_model folder of a stock ACT policy")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the act_plus policy; must not exist")
    add_json_option(parser)


def _run_from_act(args: Namespace) -> int:
    from lerobot_ext.cli.look import console, write_json

    from .convert import convert

    try:
        with redirect_stdout(sys.stderr):  # LeRobot prints what it loads
            report = convert(Path(args.checkpoint), args.out, args.passed_on)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        raise CommandError(str(error)) from error
    if args.json:
        write_json(report)
        return 0
    out = console()
    out.print(f"{args.out}: {report['kept']} tensors of the stock policy", highlight=False, soft_wrap=True)
    if report["new"]:
        out.print(f"{len(report['new'])} new ones, to be trained: {', '.join(report['new'])}", soft_wrap=True)
    if report["dropped"]:
        out.print(f"{len(report['dropped'])} left out: {', '.join(report['dropped'])}", soft_wrap=True)
    return 0


FROM_ACT = Command(
    name="from-act",
    summary="Turn a checkpoint of stock ACT into one of act_plus, with flags to train on with.",
    example="lerobot-ext from-act run/checkpoints/last/pretrained_model act_rtc --policy.prefix_steps=10",
    configure=_configure_from_act,
    run=_run_from_act,
    pass_on=("--policy.",),
)
