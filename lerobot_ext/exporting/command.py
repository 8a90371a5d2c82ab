# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext export`: a policy's actor as a stock checkpoint, for machines without our packages."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--policy.path", dest="path", required=True, metavar="DIR", help="checkpoint, or user/repo if here"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--format",
        choices=("lerobot", "openpi"),
        default="lerobot",
        help="openpi: weights under OpenPI's names and norm_stats.json; for pi0",
    )
    parser.add_argument("--asset", default="lerobot", metavar="NAME", help="OpenPI's asset_id (lerobot)")
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare actions in a process without our packages"
    )
    add_json_option(parser)


def _run(args: Namespace) -> int:
    if Path(args.asset).name != args.asset or args.asset in ("", ".", ".."):
        raise CommandError(f"--asset {args.asset!r} is no name of a folder", "use letters, digits and _")
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.doctor.checkpoint import find_checkpoint
    from lerobot_ext.exporting.export import act_without_plugins, export

    folder = find_checkpoint(args.path)
    with console(stderr=True).status("Exporting, and comparing actions …"):
        done = export(
            folder,
            args.out,
            args.format,
            asset=args.asset,
            check=None if args.no_check else act_without_plugins,
        )
    if args.json:
        write_json(done)
        return 0
    out = console()
    actor = f"{done.parameters / 1e6:.2f} of {done.before / 1e6:.2f} M parameters"
    out.print(f"{done.out}: {done.type}, {actor}", markup=False)
    for name in done.left_out:
        out.print(f"left out: step {name}, which only a training needs", markup=False)
    out.print("files: " + ", ".join(done.files), markup=False)
    if done.compared:
        how = f"but for {done.apart:.1g} of its merged adapters" if done.apart else "to the bit"
        out.print(f"without our packages its actions are the same {how} ({done.compared} observations)")
    return 0


EXPORT = Command(
    name="export",
    summary="Write a policy's actor as a checkpoint of LeRobot's own class, which needs no plugin.",
    example="lerobot-ext export --policy.path=run/checkpoints/last/pretrained_model --out actor",
    configure=_configure,
    run=_run,
)
