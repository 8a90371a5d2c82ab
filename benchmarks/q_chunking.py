# SPDX-License-Identifier: Apache-2.0
"""What a training step and a chunk of `q_chunking` cost on a CPU, against cloning by its own flow.

A step is what the stock trainer does with a batch: forward, backward, the optimizer's step, `update()`. All
sides run in turns, in one process, on one thread; times are medians of CPU time, ratios are medians of the
ratios of rounds. Weights and batches are random: times do not depend on them. Targets: a step of `distill` at
most 3 times one of `bc`, an ensemble of 10 critics at most 2 times one of 2. Prints Markdown; writes
q_chunking.json, .md and .png, and with `--write-readme` the block in the policy's README.
Expected last line: `q_chunking: distill … times its bc step, 10 critics … times 2; … of … targets reached`.

    uv run python benchmarks/q_chunking.py [--quick] [--rounds 25] [--camera-rounds 3] [--batch 256] \
        [--out DIR] [--write-readme]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rl_parts import blocks, pictures, timing, training_steps

CRITICS = 10
SIDES: dict[str, dict[str, Any]] = {
    "bc": {"extraction": "bc"},
    "distill": {"extraction": "distill"},
    f"distill, {CRITICS} critics": {"extraction": "distill", "n_critics": CRITICS},
    "awr": {"extraction": "awr"},
    "best_of_n": {"extraction": "best_of_n"},
}
"""All with `n_critics` 2 where nothing else is said, and the other defaults of the policy."""
TARGETS = {("distill", "bc"): 3.0, (f"distill, {CRITICS} critics", "distill"): 2.0}
AGAINST = {"distill": "bc", f"distill, {CRITICS} critics": "distill", "awr": "bc", "best_of_n": "bc"}
BLOCK = "cost"


def steps(cameras: int, batch: int, rounds: int) -> list[dict[str, Any]]:
    """A training step of each side."""
    works = {
        name: training_steps.step(training_steps.policy(cameras, **{"n_critics": 2, **fields}), batch)
        for name, fields in SIDES.items()
    }
    times = timing.in_turns(works, rounds)
    return rows("one camera" if cameras else "joints", times)


def rows(place: str, times: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """A row for each side: its time, and its ratio to what it is measured against."""
    found = []
    for side, values in times.items():
        against = AGAINST.get(side)
        ratio = timing.median_ratio(dict(times), side, against) if against else 1.0
        found.append({
            "what": f"{place}: {side}",
            "ms": statistics.median(values),
            "against": against,
            "ratio": ratio,
            "target": TARGETS.get((side, against)) if against else None,
        })  # fmt: skip
    return found


def chunks(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a planned chunk, by where and extraction."""
    found = {}
    for place, cameras in (("joints", 0), ("one camera", 1)):
        works = {
            name: training_steps.plan(training_steps.policy(cameras, extraction=name))
            for name in ("bc", "distill", "awr", "best_of_n")
        }
        times = timing.in_turns(works, rounds)
        found[place] = {name: statistics.median(values) for name, values in times.items()}
    return found


def step_table(found: list[dict[str, Any]]) -> str:
    """The training steps."""
    lines = ["| a training step | CPU ms | times | of | target |", "|---|---|---|---|---|"]
    for row in found:
        target = "" if row["target"] is None else f"<= {row['target']:g}: {_word(row)}"
        ratio = "" if row["against"] is None else f"{row['ratio']:.2f}"
        lines.append(f"| {row['what']} | {row['ms']:.4g} | {ratio} | {row['against'] or ''} | {target} |")
    return "\n".join(lines)


def chunk_table(found: dict[str, dict[str, float]]) -> str:
    """The chunks."""
    names = list(next(iter(found.values())))
    lines = [f"| a chunk, CPU ms | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for place, times in found.items():
        lines.append(f"| {place} | {' | '.join(f'{times[name]:.3g}' for name in names)} |")
    return "\n".join(lines)


def reached(row: dict[str, Any]) -> bool:
    """Whether a row keeps to its target."""
    return bool(row["ratio"] <= row["target"])


def _word(row: dict[str, Any]) -> str:
    return "reached" if reached(row) else "MISSED"


def last_line(found: list[dict[str, Any]]) -> str:
    """What was found, on joints."""
    by_name = {row["what"]: row["ratio"] for row in found}
    wanted = [row for row in found if row["target"] is not None]
    return (
        f"q_chunking: distill {by_name['joints: distill']:.2f} times its bc step, {CRITICS} critics "
        f"{by_name[f'joints: distill, {CRITICS} critics']:.2f} times 2; "
        f"{sum(map(reached, wanted))} of {len(wanted)} targets reached"
    )


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few small steps: only shows that it runs")
    parser.add_argument("--rounds", type=int, default=25, help="on joints (default: %(default)s)")
    parser.add_argument("--camera-rounds", type=int, default=3, help="on pictures (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="samples of a step (default: %(default)s)")
    parser.add_argument("--write-readme", action="store_true", help="put the tables into the policy's README")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/q_chunking"))
    args = parser.parse_args()
    if args.quick and args.write_readme:
        parser.error("--quick measures nothing that belongs into the README; leave out one of the two.")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch, rounds, camera_rounds = args.batch, args.rounds, args.camera_rounds
    if args.quick:
        batch, rounds, camera_rounds = 8, 3, 1
    found = steps(0, batch, rounds)
    print("joints: done", file=sys.stderr)
    found += steps(1, batch, camera_rounds)
    plans = chunks(rounds)
    text = f"{step_table(found)}\n\n{chunk_table(plans)}"
    load = os.getloadavg()[0]
    machine = f"batch {batch}, one thread, torch {torch.__version__}, load {load:.1f} at the end"
    print(f"{text}\n\n{machine}")
    args.out.mkdir(parents=True, exist_ok=True)
    kept = {"machine": machine, "rounds": [rounds, camera_rounds], "steps": found, "chunks": plans}
    (args.out / "q_chunking.json").write_text(json.dumps(kept, indent=2) + "\n")
    (args.out / "q_chunking.md").write_text(text + "\n")
    pictures.ratio_bars([row for row in found if row["against"]], args.out / "q_chunking.png")
    if args.write_readme:
        command = f"uv run python benchmarks/q_chunking.py --batch {batch} --rounds {rounds}"
        head = f"`{command} --camera-rounds {camera_rounds}`, {date.today().isoformat()}, medians:"
        blocks.write_block(blocks.Q_CHUNKING, BLOCK, f"{head}\n\n{text}")
    print(last_line(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
