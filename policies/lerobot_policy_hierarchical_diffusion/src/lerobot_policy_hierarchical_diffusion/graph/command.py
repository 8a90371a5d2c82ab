# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext export-graph`: a policy's plan as a file for runtimes without Python."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

FORMATS = (".pt2", ".onnx")


def _whole(text: str) -> int:
    if not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--policy.path", dest="path", required=True, metavar="DIR", help="the checkpoint")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="plan.pt2 (torch.export) or plan.onnx"
    )
    parser.add_argument("--layers", type=_whole, metavar="N", help="layers that run (all of them)")
    parser.add_argument("--steps", type=_whole, metavar="K", help="denoising steps (the checkpoint's own)")
    parser.add_argument("--task", default="", metavar="TEXT", help="task whose embedding is written down")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    if args.out.suffix not in FORMATS:
        raise CommandError(f"--out {args.out} is of no known format", f"end it in {' or '.join(FORMATS)}")
    from lerobot_ext.cli.look import console, write_json

    from . import session

    found = session.export(args)
    if args.json:
        write_json(found)
        return 0
    out = console()
    out.print(f"{found['file']}: {found['bytes'] / 1e6:.1f} MB, described in {found['description']}")
    out.print(f"largest difference from the policy's own plan: {found['largest_difference']:.1e}")
    out.print(f"a plan takes {found['graph_ms']:.2f} ms (median), the policy's own {found['policy_ms']:.2f}")
    return 0


EXPORT_GRAPH = Command(
    name="export-graph",
    summary="Write a hierarchical_diffusion policy's plan as torch.export or ONNX, and compare the two.",
    example="lerobot-ext export-graph --policy.path=run/checkpoints/last/pretrained_model --out plan.onnx",
    configure=_configure,
    run=_run,
)
