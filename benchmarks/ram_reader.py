# SPDX-License-Identifier: Apache-2.0
"""What an item costs through LeRobot's own reader and through columns in RAM, paired in one run.

    uv run python benchmarks/ram_reader.py [--quick] [--items 400] [--json FILE]

Prints a table for state-only samples and for windows of 16 and 100 actions, and ends with the line
`ram_reader: … times faster …`. Both readers open the same dataset and give the same items in the same order,
a few at a time in turn, so that a busy machine weighs on both.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.data import ram_reader

FPS = 30
CASES = {"state only": None, "16 actions": 16, "100 actions": 100}


def write_dataset(root: Path, episodes: int, length: int) -> None:
    """Joints, cube pose and actions of a six-joint arm, random, through LeRobot's own writer."""
    features = {
        "observation.state": {"dtype": "float32", "shape": (6,), "names": None},
        "observation.environment_state": {"dtype": "float32", "shape": (7,), "names": None},
        "action": {"dtype": "float32", "shape": (6,), "names": None},
    }
    dataset = LeRobotDataset.create("user/bench", FPS, features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for _ in range(episodes):
        for _ in range(length):
            row = rng.normal(size=19).astype(np.float32)
            parts = dict(zip(features, np.split(row, [6, 13]), strict=True))
            dataset.add_frame({**parts, "task": "lift the cube"})
        dataset.save_episode()
    dataset.finalize()


def open_both(root: Path, window: int | None) -> tuple[LeRobotDataset, LeRobotDataset]:
    """The dataset through stock's reader, and through ours."""
    deltas = {"action": [i / FPS for i in range(window)], "observation.state": [0.0]} if window else None
    ram_reader.uninstall()
    stock = LeRobotDataset("user/bench", root=root, delta_timestamps=deltas)
    if not ram_reader.install():
        raise SystemExit("the fast reader does not install on this LeRobot; see the line above")
    ours = LeRobotDataset("user/bench", root=root, delta_timestamps=deltas)
    ram_reader.uninstall()
    return stock, ours


def time_items(dataset: LeRobotDataset, rows: list[int]) -> list[float]:
    """Milliseconds for each of `rows`."""
    spent = []
    for row in rows:
        started = time.perf_counter()
        dataset[row]
        spent.append((time.perf_counter() - started) * 1e3)
    return spent


def measure(root: Path, window: int | None, items: int) -> dict[str, float]:
    """Median milliseconds an item for both readers, in turns of ten items."""
    stock, ours = open_both(root, window)
    rows = np.random.default_rng(1).integers(0, len(stock), size=items).tolist()
    for row in rows[:3]:
        expected, got = stock[row], ours[row]
        if any(not torch.equal(got[k], v) for k, v in expected.items() if isinstance(v, torch.Tensor)):
            raise SystemExit(f"item {row} differs between the readers; the comparison would mean nothing")
    spent: dict[str, list[float]] = {"stock_ms": [], "ram_ms": []}
    for start in range(0, items, 10):
        spent["stock_ms"] += time_items(stock, rows[start : start + 10])
        spent["ram_ms"] += time_items(ours, rows[start : start + 10])
    result = {name: statistics.median(values) for name, values in spent.items()}
    return {**result, "ratio": result["stock_ms"] / result["ram_ms"]}


def table(results: dict[str, dict[str, float]]) -> str:
    """Both readers, as Markdown."""
    lines = ["| item | stock, ms | columns in RAM, ms | ratio |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {row['stock_ms']:.2f} | {row['ram_ms']:.3f} | {row['ratio']:.0f} |"
        for name, row in results.items()
    ]
    return "\n".join(lines)


def last_line(results: dict[str, dict[str, float]]) -> str:
    """The least gain and the slowest item."""
    slowest = max(row["ram_ms"] for row in results.values())
    least = min(row["ratio"] for row in results.values())
    return (
        f"ram_reader: at least {least:.0f} times faster than stock, at most {slowest:.3f} ms an item (median)"
    )


def main() -> int:
    """Measure all cases, print the table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few items: proves that it runs")
    parser.add_argument("--items", type=int, default=400, help="items a case and reader")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "bench"
        write_dataset(root, episodes=4 if args.quick else 20, length=150)
        items = 40 if args.quick else args.items
        results = {name: measure(root, window, items) for name, window in CASES.items()}
    print(table(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(last_line(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
