# SPDX-License-Identifier: Apache-2.0
"""What each flag of `act_plus` is worth beside stock ACT, under delays and with instructions.

Trains small policies on scripted demonstrations of the simulated Koch, the same for all, and plays them:
`lift`
with 0, 100 and 300 ms between observation and chunk, in a loop that waits and in one that does not; `choose`,
where the instruction alone says which side counts; `either`, where demonstrators go left or right by whim.
The
delays are simulated, so that a busy machine changes no figure but the latencies. Prints a table with 95 %
intervals over all episodes, writes JSON and PNG. Goes on where it was interrupted.
Expected last line: `at 300 ms act_rtc … %, stock ACT … %; boundary jerk … times lower; …`.

    uv run python benchmarks/act_plus.py [--quick] [--seeds 3] [--episodes 100] [--jobs 2] [--only TEXT]
    [--out DIR]

`--only lift__act_rtc` measures the cells whose name holds that text (TASK__POLICY__SEED__LOOP_DELAYms).
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from act_plus_parts.measuring import run
from act_plus_parts.report import picture, pooled, summary, table
from act_plus_parts.variants import cells


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="show that it runs; the figures mean nothing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=100, help="a cell and seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, one thread each")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cells whose name holds this")
    parser.add_argument("--out", type=Path, help="default: a new folder under the system's temporary one")
    args = parser.parse_args()
    for name in ("seeds", "episodes", "jobs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    seeds, episodes, scale = (1, 2, 0.004) if args.quick else (args.seeds, args.episodes, 1.0)
    wanted = cells(seeds, args.only)
    if not wanted:
        parser.error(f"no cell's name holds {args.only!r}")
    out = args.out or Path(tempfile.mkdtemp(prefix="act_plus_"))
    results = run(wanted, out, episodes, args.jobs, scale)
    rows = pooled(results)
    (out / "act_plus.json").write_text(
        json.dumps({"rows": rows, "cells": results}, indent=1), encoding="utf-8"
    )
    picture(rows, out / "act_plus.png")
    print(table(rows))
    print(f"\nwritten: {out / 'act_plus.json'} and .png")
    print(summary(rows))


if __name__ == "__main__":
    main()
