# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext inspect-batch`: a batch on its way from the dataset into the policy, step by step."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option
from lerobot_ext.training.profile.command import PASSED_ON

if TYPE_CHECKING:
    from lerobot_ext.doctor.findings import Finding
    from lerobot_ext.evaluation.batch_session import Forward, Seen
    from lerobot_ext.evaluation.batch_stages import Stage, Value

_STYLES: Final = {
    "new": "green",
    "removed": "red",
    "shape": "yellow",
    "dtype": "yellow",
    "device": "cyan",
    "values": "cyan",
}
_COLUMNS: Final = ["", "entry", "shape", "dtype", "device", "min", "mean", "max", "NaN"]


def _depth(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no depth: 1 or more")
    return int(text)


def _configure(parser: ArgumentParser) -> None:
    parser.usage = (
        "lerobot-ext inspect-batch OPTION-OF-lerobot-train… [--forward [--depth N]] [--all] [--json]"
    )
    parser.add_argument("--forward", action="store_true", help="run policy.forward: loss and submodules")
    parser.add_argument(
        "--depth", type=_depth, default=2, metavar="N", help="submodules so deep, with --forward (default: 2)"
    )
    parser.add_argument("--all", action="store_true", help="show every entry at every step, changed or not")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    words = list(args.passed_on)
    if not any(word.startswith(("--policy.", "--config_path")) for word in words):
        raise CommandError("there is no policy", "say --policy.path=DIR, or --policy.type=act")
    if not any(word.startswith(("--dataset.", "--config_path")) for word in words):
        raise CommandError("there is no dataset", "say --dataset.repo_id=user/data, and --dataset.root=DIR")
    if not any(word.startswith("--num_workers=") for word in words):
        words.append("--num_workers=0")  # one batch needs no processes
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.doctor.findings import is_ok
    from lerobot_ext.evaluation.batch_findings import findings
    from lerobot_ext.evaluation.batch_session import look

    seen = look(words, forward=args.forward, depth=args.depth)
    found = findings(seen)
    if args.json:
        write_json(_as_json(seen, found))
    else:
        _show(console(), seen, found, everything=args.all)
    return 0 if is_ok(found) else 1


def _show(out: Any, seen: Seen, found: list[Finding], *, everything: bool) -> None:
    """The tables, for people."""
    from lerobot_ext.cli.look import table
    from lerobot_ext.evaluation.batch_session import FINAL, ITEM

    if seen.config is not None:
        size = f"{seen.n_parameters / 1e6:.2f} M parameters"
        out.print(f"{seen.config.type} on {seen.config.device}, {size}", markup=False)
    for place, entry in enumerate(seen.stages):
        whole = everything or entry.name in (ITEM, FINAL) or place == 1
        rows = list(_rows(entry, whole=whole, marks=place > 1))
        if rows:
            out.print(table(f"{place}. {entry.name}", _COLUMNS, rows))
        else:
            out.print(f"{place}. {entry.name}: nothing changes\n", markup=False)
    if seen.forward is not None:
        _show_forward(out, seen.forward)
    for item in found:
        out.print(f"{item.level}: {item.subject}: {item.message}", markup=False)
        out.print(f"  remedy: {item.remedy}", markup=False)
    if not found:
        out.print("nothing to complain about", markup=False)


def _rows(entry: Stage, *, whole: bool, marks: bool) -> Iterator[list[Any]]:
    """A row an entry; what changed is marked, what went is named last."""
    from rich.text import Text

    for key, value in entry.values.items():
        change = entry.changes.get(key, "") if marks else ""
        if whole or change:
            cells = [change, key, *_cells(value)]
            yield [Text(cell, style=_STYLES.get(change, "")) for cell in cells]
    for key, change in entry.changes.items():
        if change == "removed" and marks:
            yield [Text(cell, style=_STYLES[change]) for cell in (change, key, *[""] * 7)]


def _cells(value: Value) -> list[str]:
    if value.kind != "tensor":
        return [str(value.shape or ""), value.kind, "", value.text, "", "", ""]
    numbers = ["" if number is None else f"{number:.4g}" for number in (value.low, value.mean, value.high)]
    return [str(value.shape), value.dtype, value.device, *numbers, str(value.bad or "")]


def _show_forward(out: Any, forward: Forward) -> None:
    from lerobot_ext.cli.look import table

    rows = []
    for call in forward.trace.calls.values():
        outputs = call.outputs
        rows.append(
            [
                "  " * (call.depth - 1) + call.name,
                call.type,
                str(call.calls),
                " ".join(str(value.shape) for value in call.inputs) or "-",
                " ".join(str(value.shape) for value in outputs) if call.finished else "FAILED",
                ", ".join(dict.fromkeys(f"{value.dtype} {value.device}" for value in outputs)),
                *_spread(outputs),
            ]
        )
    columns = ["module", "class", "calls", "in", "out", "dtype", "min", "mean", "max", "NaN"]
    if rows:
        out.print(table("policy.forward, by submodule", columns, rows))
    if forward.loss is not None:
        log = ", ".join(
            f"{key} {value:.4g}" for key, value in forward.log.items() if isinstance(value, float)
        )
        out.print(f"loss {forward.loss:.4g}{f' ({log})' if log else ''}", markup=False)


def _spread(values: list[Value]) -> list[str]:
    """Least, mean of the first, greatest, NaN, over the tensors that a module gave."""
    lows = [value.low for value in values if value.low is not None]
    highs = [value.high for value in values if value.high is not None]
    means = [value.mean for value in values if value.mean is not None]
    if not lows or not highs or not means:
        return ["", "", "", ""]
    bad = sum(value.bad for value in values)
    return [f"{min(lows):.4g}", f"{means[0]:.4g}", f"{max(highs):.4g}", str(bad or "")]


def _as_json(seen: Seen, found: list[Finding]) -> dict[str, Any]:
    from lerobot_ext.doctor.findings import is_ok
    from lerobot_ext.evaluation.plain import plain

    forward = None
    if seen.forward is not None:
        forward = {
            "loss": seen.forward.loss,
            "log": {k: v for k, v in seen.forward.log.items() if isinstance(v, bool | int | float | str)},
            "modules": list(seen.forward.trace.calls.values()),
            "failed_in": seen.forward.trace.failed_in if seen.error else "",
        }
    facts: dict[str, Any] = {
        "ok": is_ok(found),
        "policy": None if seen.config is None else seen.config.type,
        "parameters": seen.n_parameters,
        "stages": seen.stages,
        "forward": forward,
        "failed_at": seen.at if seen.error else "",
        "error": seen.error,
        "findings": found,
    }
    return plain(facts)  # type: ignore[no-any-return]


INSPECT_BATCH = Command(
    name="inspect-batch",
    summary="Show a batch's shapes and ranges, from the dataset through each processor step into the policy.",
    example="lerobot-ext inspect-batch --policy.type=act --dataset.repo_id=user/data --forward",
    configure=_configure,
    run=_run,
    pass_on=PASSED_ON,
)
