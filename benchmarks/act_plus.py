# SPDX-License-Identifier: Apache-2.0
"""What each flag of `act_plus` is worth beside stock ACT: under delays, with instructions, with depth.

Trains small policies on scripted demonstrations of the simulated Koch, the same for all, and plays them.
`belt`: lift the cube from a conveyor belt, and `lift`, from a table at rest, with 0, 100 and 300 ms between
observation and chunk, in a loop that waits and in one that does not; `choose`, where the instruction alone
says which side counts; `either`, where demonstrators go left or right by whim; `depth`, reaching for a ball
that floats, seen by one camera. The delays are simulated, so
that a busy machine changes no figure but the latencies. Prints tables with 95 % intervals over all episodes,
writes JSON and PNG. Goes on where it was interrupted; a cell is made anew where its own recipe changed.
Expected last line: `belt, 300 ms: act_rtc … %, stock ACT that waits … %; boundary jerk …`.

    uv run python benchmarks/act_plus.py [--quick] [--seeds 3] [--episodes 100] [--jobs 2] [--only TEXT]
        [--report] [--earlier FILE] [--write-readme] [--out DIR]

`--only belt__act_rtc` measures the cells whose name holds that text (TASK__POLICY__SEED__LOOP_DELAYms), also
several, by commas. `--earlier docs/results/act_plus.json` keeps the rows of that file that were not measured
now; each row tells its day.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from act_plus_parts.measuring import found, run
from act_plus_parts.report import BLOCK, completed, picture, pooled, readme_block, summary, tables
from act_plus_parts.variants import cells
from rl_parts.blocks import IMAGES, POLICIES, write_block

README = POLICIES / "lerobot_policy_act_plus" / "README.md"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="show that it runs; the figures mean nothing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=100, help="a cell and seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, one thread each")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cells whose name holds this")
    parser.add_argument("--report", action="store_true", help="measure nothing, only report what is there")
    parser.add_argument("--earlier", type=Path, metavar="FILE", help="figures to keep where none are new")
    parser.add_argument("--write-readme", action="store_true", help="put tables and picture into the README")
    parser.add_argument("--out", type=Path, help="default: a new folder under the system's temporary one")
    args = parser.parse_args()
    for name in ("seeds", "episodes", "jobs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if args.write_readme and args.quick:
        parser.error("--write-readme takes figures that mean something; leave out --quick")
    if args.report and not args.out:
        parser.error("--report needs --out, the folder of a run")
    if not cells(args.seeds, args.only):
        parser.error(f"no cell's name holds {args.only!r}")
    return args


def earlier_rows(file: Path | None) -> list[dict[str, Any]]:
    """Rows that `docs/results` keeps, or an earlier run wrote, each with its day; none without a file."""
    if file is None:
        return []
    content = json.loads(file.read_text(encoding="utf-8"))
    rows = content.get("figures", content)["rows"]
    return [{"measured": content.get("measured"), **row} for row in rows]


def main() -> None:
    """Measure, print, write."""
    args = parse()
    seeds, episodes, scale = (1, 2, 0.004) if args.quick else (args.seeds, args.episodes, 1.0)
    wanted = cells(seeds, args.only)
    out = args.out or Path(tempfile.mkdtemp(prefix="act_plus_"))
    if not args.report:
        run(wanted, out, episodes, args.jobs, scale)
    known = found(wanted, out, episodes, scale)
    if not known:
        raise SystemExit(
            f"{out} holds no cells of {episodes} episodes made as they would be now; run without --report."
        )
    if len(known) < len(wanted):
        print(f"{len(wanted) - len(known)} of {len(wanted)} cells are not measured yet", file=sys.stderr)
    results = list(known.values())
    keys = [(cell.task, cell.variant, cell.mode, cell.delay_ms) for cell in cells(1)]
    rows = completed(pooled(results), earlier_rows(args.earlier), keys)
    (out / "act_plus.json").write_text(
        json.dumps({"rows": rows, "cells": results}, indent=1), encoding="utf-8"
    )
    picture(rows, out / "act_plus.png")
    print(tables(rows))
    print(f"\nwritten: {out / 'act_plus.json'} and .png")
    if args.write_readme:
        if len(rows) < len(keys) or len(known) < len(wanted):
            raise SystemExit("the README's block wants all cells; measure them, or give an --earlier file.")
        command = f"uv run python benchmarks/act_plus.py --seeds {seeds} --episodes {episodes} --out DIR"
        write_block(README, BLOCK, readme_block(rows, command))
        shutil.copy(out / "act_plus.png", IMAGES / "act_plus.png")
    print(summary(rows))


if __name__ == "__main__":
    main()
