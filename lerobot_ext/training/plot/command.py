# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext plot RUN…`: curves of training runs, compared."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option
from lerobot_ext.missing import require

if TYPE_CHECKING:
    from lerobot_ext.training.plot.runs import Run

# Shown where a run has them and nothing is asked for.
DEFAULT_METRICS = ("loss", "eval_loss", "grad_norm", "lr")
FORMATS = (".png", ".svg", ".pdf", ".html")


def _weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise ArgumentTypeError(f"{text!r} is no weight: 0 (as measured) up to below 1, 0.9 for instance")
    return value


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a run's folder, its metrics.csv, or an evaluation's folder; NAME=RUN names it",
    )
    parser.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help="a column of metrics.csv, a panel each; may be repeated "
        f"(default: {', '.join(DEFAULT_METRICS)}, where there are)",
    )
    parser.add_argument(
        "--smooth", type=_weight, default=0.0, metavar="W", help="weight of the past, 0 to <1"
    )
    parser.add_argument("--log", action="store_true", help="logarithmic scale for the metrics")
    parser.add_argument("--x", choices=("step", "time", "epoch", "samples"), default="step")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("plot.png"),
        metavar="FILE",
        help="what to write: .png, .svg, .pdf, or .html in one piece (default: plot.png)",
    )
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.cli.look import console, table, write_json
    from lerobot_ext.training.plot.runs import load_runs

    if args.out.suffix.lower() not in FORMATS:
        raise CommandError(f"--out {args.out} is of no known format", f"end it in {', '.join(FORMATS)}")
    runs = load_runs(args.runs)
    metrics = _metrics(runs, args.metric)
    require("matplotlib", "plot")
    columns, rows = _summary(runs, metrics)
    _save(runs, metrics, args, columns, rows)
    if args.json:
        write_json(
            {"out": args.out.resolve(), "metrics": metrics, "runs": [_as_json(run, metrics) for run in runs]}
        )
        return 0
    out = console()
    out.print(table("", columns, rows))
    if not all(run.final_evaluations() for run in runs):
        out.print(
            "success is known of runs with --env_eval_freq, and of evaluations: name the folder that "
            "lerobot-eval wrote as well, or let it write into RUN/eval with --output_dir",
            markup=False,
        )
    out.print(f"wrote {args.out}", markup=False)
    return 0


def _metrics(runs: "list[Run]", asked: list[str] | None) -> list[str]:
    """The metrics to show.

    Raises:
        CommandError: No run has one of those asked for.
    """
    from difflib import get_close_matches

    there = list(dict.fromkeys(name for run in runs for name in run.columns))
    if asked is None:
        return [name for name in DEFAULT_METRICS if name in there]
    for name in asked:
        if name not in there:
            near = get_close_matches(name, there, n=1)
            raise CommandError(
                f"no run has a metric {name!r}",
                f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(there) or 'none'}",
            )
    return list(dict.fromkeys(asked))


def _save(
    runs: "list[Run]", metrics: list[str], args: Namespace, columns: list[str], rows: list[list[str]]
) -> None:
    from lerobot_ext.training.plot.figure import Look, draw
    from lerobot_ext.training.plot.page import page

    figure = draw(runs, Look(tuple(metrics), args.x, args.smooth, args.log))
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        if args.out.suffix.lower() == ".html":
            title = ", ".join(run.name for run in runs)
            args.out.write_text(page(figure, title, columns, rows), encoding="utf-8")
        else:
            figure.savefig(args.out, dpi=120)
    except OSError as error:
        raise CommandError(f"{args.out} cannot be written: {error}", "name another file with --out") from None


def _summary(runs: "list[Run]", metrics: list[str]) -> tuple[list[str], list[list[str]]]:
    """A table: a run a line, with the last and the least value of each metric, and its success."""
    from lerobot_ext.training.plot.runs import rate_text

    rows = []
    for run in runs:
        cells = [run.name, str(max(run.rows, default="-"))]
        for metric in metrics:
            figures = _figures(run, metric)
            cells.append(f"{figures['last']:.4g} (min {figures['min']:.4g})" if figures else "-")
        rates = [f"{e.task}: {rate_text(e.successes, e.episodes)}" for e in run.final_evaluations()]
        rows.append([*cells, "\n".join(rates) or "-"])
    return ["run", "steps", *metrics, "success (95 %)"], rows


def _figures(run: "Run", metric: str) -> dict[str, float]:
    """Last and least finite value of a metric; empty if it has none."""
    import math

    values = [value for value in run.curve(metric)[1] if math.isfinite(value)]
    return {"last": values[-1], "min": min(values)} if values else {}


def _as_json(run: "Run", metrics: list[str]) -> dict[str, Any]:
    from lerobot_ext.intervals import wilson_interval

    return {
        "name": run.name,
        "path": run.path,
        "steps": max(run.rows, default=0),
        "metrics": {metric: _figures(run, metric) for metric in metrics},
        "evaluations": [
            entry.to_json() | {"interval_95": wilson_interval(entry.successes, entry.episodes)}
            for entry in run.final_evaluations()
        ],
    }


PLOT = Command(
    name="plot",
    summary="Draw the curves of training runs and compare them, with success rates and their intervals.",
    example="lerobot-ext plot outputs/train/a outputs/train/b --metric loss --smooth 0.9 --out runs.html",
    configure=_configure,
    run=_run,
)
