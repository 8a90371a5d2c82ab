# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext checkpoints-diff A B`: what differs between two checkpoints, optimizer state included."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from lerobot_ext.checkpoints.compare import Comparison


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no tolerance: 0 or more")
    return value


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="A", help="folder of a checkpoint: checkpoints/000500")
    parser.add_argument("b", type=Path, metavar="B", help="folder of the other one")
    parser.add_argument(
        "--tolerance", type=_tolerance, default=0.0, metavar="X", help="numbers this close are the same (0)"
    )
    parser.add_argument(
        "--structure", action="store_true", help="names, shapes and types alone, without reading numbers"
    )
    parser.add_argument("--top", type=int, default=30, metavar="N", help="differences to list per kind (30)")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.checkpoints.compare import compare
    from lerobot_ext.cli.look import console, write_json

    with console(stderr=True).status("Comparing …"):
        found = compare(args.a, args.b, tolerance=args.tolerance, values=not args.structure)
    differs = bool(found.differences or any(found.faults.values()))
    if args.json:
        write_json({"same": not differs, "compared_equal": found.same, **_plain(found)})
    else:
        _show(console(), found, args.top)
    return 1 if differs else 0


def _plain(found: Comparison) -> dict[str, Any]:
    return {"differences": found.differences, "faults": found.faults}


def _show(out: Any, found: Comparison, top: int) -> None:
    from lerobot_ext.checkpoints.compare import VALUE
    from lerobot_ext.cli.look import table

    for side, faults in found.faults.items():
        for fault in faults:
            out.print(f"problem in {side}: {fault}", markup=False)
    structure = [one for one in found.differences if one.largest is None]
    if structure:
        rows = [[one.file, one.name, one.kind, one.a, one.b] for one in structure[:top]]
        out.print(table("structure and settings", ["file", "name", "differs", "A", "B"], rows))
        _more(out, len(structure) - top)
    numbers = sorted(
        (one for one in found.differences if one.kind == VALUE and one.largest is not None),
        key=lambda one: -(one.relative if one.relative is not None else float("inf")),
    )
    if numbers:
        rows = [
            [
                one.file.rpartition("/")[2],
                one.name,
                f"{one.largest:.3g}",
                "" if one.relative is None else f"{one.relative:.3g}",
                f"{100 * (one.changed or 0):.0f} %",
                one.a,
                one.b,
            ]
            for one in numbers[:top]
        ]
        columns = ["file", "tensor", "largest", "relative", "changed", "A", "B"]
        out.print(table("numbers, largest change in relation to A first", columns, rows))
        _more(out, len(numbers) - top)
    counts = Counter(one.kind for one in found.differences)
    said = ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "no difference"
    out.print(f"{said}; {sum(found.same.values())} tensors and settings are the same", markup=False)


def _more(out: Any, number: int) -> None:
    if number > 0:
        out.print(f"and {number} more; --top N lists more, --json all", markup=False)


CHECKPOINTS_DIFF = Command(
    name="checkpoints-diff",
    summary="Show what differs between two checkpoints: tensors, types, values, settings, optimizer state.",
    example="lerobot-ext checkpoints-diff run/checkpoints/000500 run/checkpoints/001000",
    configure=_configure,
    run=_run,
)
