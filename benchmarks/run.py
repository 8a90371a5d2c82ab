# SPDX-License-Identifier: Apache-2.0
"""All benchmarks by one command: what is not done yet is run, and `docs/results` can be written.

A full run goes through the suites one after the other, each with `--jobs` processes where it can use them,
because they measure time; it takes many hours. A quick one shows that all of them work, `--jobs` at a time.
A suite that is done is not run again while its words, its script, the code that it measures and LeRobot's and
torch's versions are the same, so a run that was stopped goes on. Machine, versions and commit are recorded
with each. `--write-docs` keeps the figures in `docs/results`, the pictures in `docs/images`, and writes the
index and the table of the README; blocks in READMEs are written by the benchmarks' own `--write-readme`.
`--take` keeps figures that a benchmark has measured by itself.

`--engine ray` gives each suite to a machine of a Ray cluster as one task: of a full run one at a time on
each machine, with all of its CPUs. Ray is no part of this project (`uv pip install ray` on each machine).
Yours to provide are a shared folder for `--out`, which all machines see under the same name, and this
checkout with its environment in the same place on each. Each suite is kept with the machine that ran it.
Expected last line: `run: … of … suites done`.

    uv run python benchmarks/run.py --suite quick|full [--only startup,processors] [--jobs 2] [--out DIR]
        [--again startup] [--write-docs] [--engine ray --ray-address auto]
    uv run python benchmarks/run.py --list
    uv run python benchmarks/run.py --take startup DIR/startup.json [--measured 2026-11-22]
        [--command "uv run python benchmarks/startup.py --runs 4"] [--note "two idle cores"]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from run_parts import front, index, kept, reports, running
from run_parts.engines import LOCAL, RAY, Local, Ray
from run_parts.running import Run
from run_parts.suites import FULL, QUICK, SUITES, Suite, chosen, cost


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; what cannot be meant ends the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=(QUICK, FULL), help="how much of each benchmark")
    parser.add_argument("--only", default="", help="suites, by commas (default: all)")
    parser.add_argument("--again", default="", help="suites that are run even if they are done, by commas")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/run"), help="default: %(default)s")
    parser.add_argument("--engine", choices=(LOCAL, RAY), default=LOCAL, help="default: %(default)s")
    parser.add_argument(
        "--ray-address", help="the cluster: auto (the one that runs here), HOST:PORT, local (default: auto)"
    )
    parser.add_argument("--write-docs", action="store_true", help="keep a full run in docs/results")
    parser.add_argument("--list", action="store_true", help="name the suites and end")
    parser.add_argument("--take", nargs=2, metavar=("SUITE", "FILE"), help="keep a benchmark's own JSON")
    parser.add_argument("--measured", default="", help="of --take: the day (default: the file's)")
    parser.add_argument("--command", default="", help="of --take: what measured it (default: a full run's)")
    parser.add_argument("--note", default="", help="of --take: what else there is to know of the machine")
    parser.add_argument("--results", type=Path, default=kept.RESULTS, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if sum([bool(args.suite), args.list, bool(args.take)]) != 1:
        parser.error("say one of --suite, --list and --take.")
    if args.jobs < 1:
        parser.error(f"--jobs ({args.jobs}) must be at least 1.")
    if args.ray_address and args.engine != RAY:
        parser.error(f"--ray-address ({args.ray_address}) is an option of --engine {RAY}.")
    if args.suite == QUICK and args.write_docs:
        parser.error("--suite quick measures nothing that belongs into docs; leave out one of the two.")
    try:
        args.suites = chosen(args.only.split(",")) if args.only else list(SUITES)
        args.forgotten = chosen(args.again.split(",")) if args.again else []
        args.taken = chosen(args.take[:1])[0] if args.take else None
    except ValueError as error:
        parser.error(str(error))
    return args


def listing() -> str:
    """The suites as Markdown."""
    lines = ["| suite | measures | a full run takes | command |", "|---|---|---|---|"]
    lines += [f"| {s.name} | {s.measures} | {s.about} | `{s.command()}` |" for s in SUITES]
    return "\n".join([*lines, "", cost(SUITES)])


def write_docs(run: Run, suites: list[Suite], found: running.Results, results: Path) -> list[str]:
    """Keep what was found in `docs/results`, and the pictures; gives what cannot be kept, and why."""
    problems = []
    for suite in suites:
        if suite.name not in found:
            continue
        one, folder = found[suite.name], run.folder(suite)
        about = {key: one[key] for key in ("command", "machine", "last_line")}
        try:
            figures = kept.figures_in(suite, folder)
            kept.write(kept.entry(suite, figures, measured=one["measured"][:10], **about), results)
        except (FileNotFoundError, ValueError) as error:
            problems.append(f"{suite.name} is not kept: {error}")
            continue
        picture = folder / f"{suite.name}.png"
        if picture.exists() and results == kept.RESULTS:
            shutil.copy(picture, index.IMAGES / picture.name)
    write_pages(results)
    return problems


def write_pages(results: Path) -> None:
    """The index of kept figures, and the table of the README."""
    index.write(results)
    if results == kept.RESULTS:
        front.write()


def take(args: argparse.Namespace) -> Path:
    """Keep a file that a benchmark has written; beside what is kept of other files of the same suite.

    Raises:
        SystemExit: The file is not there, or is not this benchmark's.
    """
    suite, file = args.taken, Path(args.take[1])
    try:
        figures = kept.read_figures(suite, [file])
        before = kept.read(suite.name, args.results)
        if suite.figures and before is not None:
            figures = before["figures"] | figures
        report = reports.of(suite.name, figures)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{file} holds no figures of {suite.name}: {error!r}") from error
    if report is None:
        raise SystemExit(
            f"{suite.name} cannot say its last line of a file; run it by --suite full --only {suite.name}."
        )
    day = args.measured or date.fromtimestamp(file.stat().st_mtime).isoformat()
    machine: dict[str, Any] = {"note": args.note or "machine not recorded"}
    entry = kept.entry(
        suite,
        figures,
        command=args.command or suite.command(),
        measured=day,
        machine=machine,
        last_line=report.last_line,
    )
    path = kept.write(entry, args.results)
    write_pages(args.results)
    return path


def main(words: list[str] | None = None) -> int:
    """Run what is asked for."""
    args = parse(words)
    if args.list:
        print(listing())
        return 0
    if args.take:
        print(f"run: kept {take(args)}")
        return 0
    run = Run(args.suite, args.out.absolute(), args.jobs)
    for suite in args.forgotten:
        run.store.forget(run.key(suite))
    with running.working_in(run.out) as commands:
        engine = Ray(run, args.ray_address or "auto") if args.engine == RAY else Local(run, commands)
        try:
            found, failures = running.run_all(run, args.suites, engine)
        finally:
            engine.leave()
    if args.write_docs:
        failures += write_docs(run, args.suites, found, args.results)
    print("| suite | s | last line |\n|---|---|---|")
    for name, result in found.items():
        print(f"| {name} | {result['seconds']:.0f} | {result['last_line']} |")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    print(f"run: {len(found)} of {len(args.suites)} suites done")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
