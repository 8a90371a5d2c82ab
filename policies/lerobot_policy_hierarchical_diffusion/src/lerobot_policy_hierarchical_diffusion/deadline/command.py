# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext latency`: measure what a policy's parts cost here, and keep it with the checkpoint."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, count
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from .session import Measured
    from .table import Choice

BUDGETS_MS = (5.0, 10.0, 20.0, 33.0, 50.0, 100.0)


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--policy.path", dest="path", required=True, metavar="DIR", help="the checkpoint")
    parser.add_argument("--policy.device", dest="device", metavar="DEVICE", help="cpu, cuda, …")
    parser.add_argument(
        "--dataset.repo_id",
        dest="repo_id",
        metavar="ID",
        help="held-out demonstrations: what each choice of layers and steps is worth is measured on them",
    )
    parser.add_argument("--dataset.root", dest="root", metavar="DIR")
    parser.add_argument("--frames", type=count, default=512, metavar="N", help="of the dataset (512)")
    parser.add_argument("--repeats", type=count, default=200, metavar="N", help="plans to time (200)")
    parser.add_argument("--dry-run", action="store_true", help="show the table, do not store it")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.cli.look import console, write_json

    from . import session

    found = session.measure(args)
    if args.json:
        write_json(_as_json(found))
        return 0
    _show(console(), found)
    return 0


def _show(out: Any, found: Measured) -> None:
    """The tables, for people."""
    from lerobot_ext.cli.look import table

    from .chooser import RESERVE

    costs = found.table.costs
    out.print(f"{costs.machine}; 95th percentile of {found.repeats} plans for one robot", markup=False)
    named = [("encode", costs.encode_ms), *zip(found.layers, costs.layers_ms, strict=True)]
    named += [("condition", costs.condition_ms), ("one denoising step", costs.step_ms)]
    out.print(table("", ["part", "ms"], [(name, f"{ms:.2f}") for name, ms in named]))
    if found.errors:
        measured = [
            (*_described(choice, found), f"{error:.4f} ± {1.96 * spread:.4f}")
            for choice, (error, spread) in found.errors.items()
        ]
        out.print(table("", ["layers", "steps", "ms", "error of the actions"], measured))
    rows = [
        (f"{budget:g}", *_described(choice, found), "" if fits else "does not fit")
        for budget, choice, fits in found.by_budget(BUDGETS_MS)
    ]
    out.print(table("", ["budget ms", "layers", "steps", "ms", ""], rows))
    out.print(
        f"{RESERVE:.0%} of a budget are kept for what follows the plan; where nothing fits, the least is run",
        markup=False,
    )
    if found.path is not None:
        out.print(f"stored in {found.path}; used with --policy.latency_budget_ms=…", markup=False)


def _described(choice: Choice, found: Measured) -> tuple[str, str, str]:
    layers = ", ".join(found.layers[: choice.layers]) or "none"
    return layers, str(choice.steps), f"{found.table.costs.of(choice):.2f}"


def _as_json(found: Measured) -> dict[str, Any]:
    from dataclasses import asdict

    from .chooser import RESERVE

    return {
        "costs": asdict(found.table.costs),
        "errors": [
            asdict(choice) | {"error": error, "standard_error": spread}
            for choice, (error, spread) in found.errors.items()
        ],
        "budgets": [
            asdict(choice) | {"budget_ms": ms, "fits": fits}
            for ms, choice, fits in found.by_budget(BUDGETS_MS)
        ],
        "reserve": RESERVE,
        "path": found.path,
    }


LATENCY = Command(
    name="latency",
    summary="Measure what a hierarchical_diffusion policy's parts cost here, for its latency budget.",
    example="lerobot-ext latency --policy.path=run/checkpoints/last/pretrained_model "
    "--dataset.repo_id=you/held_out",
    configure=_configure,
    run=_run,
)
