# SPDX-License-Identifier: Apache-2.0
"""What a training sample of three 640x480 cameras costs from a warm memory pool, and by decoding, in turns.

    uv run python benchmarks/memory_pool.py [--quick] [--seeds 3] [--out DIR]

Contestants: stock's PyAV with stock's reader, our decoder with columns in RAM, and the pool at full size and
at 240x320, all as `lerobot-train` reads them (uint8, a window of 100 actions). They take turns of a few
samples, so that a busy machine weighs on all of them. `dataset[i]` at random, then a DataLoader of two
workers, forked and spawned, that stay alive. CPU milliseconds count all threads of the process that makes the
item. Also: what filling the pool costs, and the bytes it takes as the kernel counts them. Prints a table,
writes memory_pool.json and memory_pool.png to `--out`, and ends with the line `memory_pool: …`.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SVT_LOG", "1")

import lerobot
import numpy as np
import torch
from data_path_parts import files
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_camera_pyav import backend

from lerobot_ext.data import batches, ram_reader
from lerobot_ext.data.pool.budget import POOL

STOCK, OURS, POOLED, SMALL = "stock pyav", "ours, no pool", "pool 480x640", "pool 240x320"
BUDGETS = {POOLED: "64GiB", SMALL: "64GiB:240x320"}
Row = dict[str, Any]


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Datasets opened here, and workers started here, read as this contestant does."""
    ram_reader.uninstall()
    os.environ.pop(POOL, None)
    if name != STOCK:
        batches.install()
        ram_reader.install()
    if name in BUDGETS:
        os.environ[POOL] = BUDGETS[name]
    try:
        yield
    finally:
        batches.uninstall()
        ram_reader.uninstall()
        os.environ.pop(POOL, None)


def open_datasets(root: Path) -> dict[str, LeRobotDataset]:
    """The same dataset for each contestant, as `lerobot-train` opens it."""
    opened = {}
    for name in (STOCK, OURS, POOLED, SMALL):
        with reading(name):
            opened[name] = LeRobotDataset(
                "user/bench",
                root=root,
                video_backend="pyav_stock" if name == STOCK else "pyav",
                delta_timestamps={"action": [i / files.FPS for i in range(100)]},
                return_uint8=True,
            )
    return opened


def fill(datasets: dict[str, LeRobotDataset]) -> list[Row]:
    """Decode everything once; what that costs a frame, and the memory it takes."""
    rows = []
    for name in BUDGETS:
        pool = datasets[name].reader._pool
        begun_cpu, begun = time.process_time(), time.perf_counter()
        frames = pool.fill()
        rows.append(
            {
                "contestant": name,
                "frames": frames,
                "cpu_ms_a_frame": (time.process_time() - begun_cpu) * 1e3 / frames,
                "wall_s": time.perf_counter() - begun,
                "bytes": os.fstat(pool.arena.region.descriptor).st_blocks * 512,
                "bytes_a_step": pool.arena.geometry.step_bytes,
            }
        )
        if not pool.filled():
            raise SystemExit(f"{name}: not all frames could be decoded")
    return rows


def check(datasets: dict[str, LeRobotDataset], row: int) -> None:
    """Stop where contestants of the same size do not give the same item."""
    expected = datasets[STOCK][row]
    for name in (OURS, POOLED):
        got = datasets[name][row]
        if any(not torch.equal(got[k], v) for k, v in expected.items() if isinstance(v, torch.Tensor)):
            raise SystemExit(f"{name}: item {row} differs; the comparison would mean nothing")


def items(datasets: dict[str, LeRobotDataset], reads: int, seed: int) -> list[Row]:
    """`dataset[i]` at random, three samples a turn; memory is read thirty times in its turn."""
    numbers = np.random.default_rng(seed).integers(0, len(datasets[STOCK]), reads).tolist()
    check(datasets, numbers[0])
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in datasets}
    for start in range(0, reads, 3):
        for name, dataset in datasets.items():
            for row in numbers[start : start + 3] * (10 if name in BUDGETS else 1):
                begun_cpu, begun = time.process_time(), time.perf_counter()
                dataset[row]
                spent[name].append((time.process_time() - begun_cpu, time.perf_counter() - begun))
    return [
        {
            "contestant": name,
            "workers": 0,
            "start": "",
            "samples_per_s": 1 / statistics.median(wall for _, wall in costs),
            "cpu_ms": statistics.mean(cpu for cpu, _ in costs) * 1e3,
        }
        for name, costs in spent.items()
    ]


class Timed(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """A dataset that says what each item cost the process that made it."""

    def __init__(self, dataset: LeRobotDataset, rows: list[int]) -> None:
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        begun = time.process_time()
        item = self.dataset[self.rows[index]]
        return {**item, "cpu_ms": (time.process_time() - begun) * 1e3}


def loader(datasets: dict[str, LeRobotDataset], start: str, batches: int, turns: int) -> list[Row]:
    """Batches of 8 by two workers, which stay alive; in its turn, memory gives ten times more."""
    loaders = {}
    for name, dataset in datasets.items():
        n = batches * 8 * (10 if name in BUDGETS else 1)
        rows = np.random.default_rng(0).integers(0, len(dataset), n).tolist()
        loaders[name] = torch.utils.data.DataLoader(
            Timed(dataset, rows),
            batch_size=8,
            num_workers=2,
            multiprocessing_context=start,
            persistent_workers=True,
        )
    rate: dict[str, list[float]] = {name: [] for name in loaders}
    cpu: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(turns + 1):  # the first starts the workers and opens the files: it does not count
        for name, batches_of in loaders.items():
            with reading(name):
                begun, n = time.perf_counter(), 0
                for batch in batches_of:
                    n += len(batch["cpu_ms"])
                    if turn:
                        cpu[name] += batch["cpu_ms"].tolist()
                if turn:
                    rate[name].append(n / (time.perf_counter() - begun))
    return [
        {
            "contestant": name,
            "workers": 2,
            "start": start,
            "samples_per_s": statistics.median(rate[name]),
            "cpu_ms": statistics.mean(cpu[name]),
        }
        for name in loaders
    ]


def measure(folder: Path, *, quick: bool, seeds: int) -> dict[str, list[Row]]:
    """Rows for a table: who, how many workers, how they were started, samples/s, CPU ms a sample, bytes.

    Args:
        folder (`Path`): An empty place for a dataset.
        quick (`bool`): A few frames: proves that it runs.
        seeds (`int`): Repetitions.
    """
    datasets = open_datasets(files.dataset(folder, "AV1", 2, 20 if quick else 150))
    filling = fill(datasets)
    samples = [row for seed in range(seeds) for row in items(datasets, 6 if quick else 30, seed)]
    rows = [
        {**first, **{key: statistics.median(r[key] for r in same) for key in ("samples_per_s", "cpu_ms")}}
        for name in datasets
        for same in [[row for row in samples if row["contestant"] == name]]
        for first in same[:1]
    ]
    for start in ("fork",) if quick else ("fork", "spawn"):
        rows += loader(datasets, start, *((1, 1) if quick else (5, seeds)))
    taken = {row["contestant"]: row["bytes"] for row in filling}
    return {"samples": [{**row, "bytes": taken.get(row["contestant"], 0)} for row in rows], "fill": filling}


def times_stock(rows: list[Row], row: Row, key: str) -> float:
    """How many times better than stock's in the same setting."""
    [stock] = [
        r
        for r in rows
        if r["contestant"] == STOCK and (r["workers"], r["start"]) == (row["workers"], row["start"])
    ]
    ratio = row[key] / stock[key]
    return float(ratio if key == "samples_per_s" else 1 / ratio)


def by_case(results: dict[str, list[Row]]) -> dict[str, dict[str, Row]]:
    """What `data_path.py` joins with its own: costs by case and contestant."""
    cases: dict[str, dict[str, Row]] = {}
    for row in results["samples"]:
        case = f"2 workers, {row['start']}" if row["workers"] else "dataset[i]"
        costs = {key: row[key] for key in ("samples_per_s", "cpu_ms", "bytes")}
        cases.setdefault(case, {})[row["contestant"]] = costs
    for row in results["fill"]:
        costs = {"cpu_ms": row["cpu_ms_a_frame"], "bytes": row["bytes"]}
        cases.setdefault("filling, a picture", {})[row["contestant"]] = costs
    return cases


def table(results: dict[str, list[Row]]) -> str:
    """Markdown, with the ratios to stock's."""
    rows = results["samples"]
    lines = ["| setting | by | samples/s | CPU ms a sample | memory |", "|---|---|---|---|---|"]
    for row in rows:
        setting = f"DataLoader, 2 workers, {row['start']}" if row["workers"] else "dataset[i]"
        lines.append(
            f"| {setting} | {row['contestant']}"
            f" | {row['samples_per_s']:.1f} ({times_stock(rows, row, 'samples_per_s'):.1f}x)"
            f" | {row['cpu_ms']:.2f} ({times_stock(rows, row, 'cpu_ms'):.1f}x)"
            f" | {row['bytes'] / 2**20:.0f} MiB |"
        )
    lines += ["", "| filling | CPU ms a picture | wall s | pictures |", "|---|---|---|---|"]
    lines += [
        f"| {r['contestant']} | {r['cpu_ms_a_frame']:.2f} | {r['wall_s']:.1f} | {r['frames']} |"
        for r in results["fill"]
    ]
    return "\n".join(lines) + "\n"


def last_line(cases: dict[str, dict[str, Row]]) -> str:
    """What the warm pool is worth, of figures by case."""
    ratios = {
        case: costs[POOLED]["samples_per_s"] / costs[STOCK]["samples_per_s"]
        for case, costs in cases.items()
        if {POOLED, STOCK} <= set(costs)
    }
    told = ", ".join(f"{ratio:.0f}x ({case})" for case, ratio in ratios.items())
    return f"memory_pool: samples/s from a warm pool against stock's PyAV: {told}"


def draw(results: dict[str, list[Row]], path: Path) -> None:
    """Samples a second, bars side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = results["samples"]
    settings = list(dict.fromkeys((row["workers"], row["start"]) for row in rows))
    figure, axis = plt.subplots(figsize=(2.2 * len(settings) + 2, 4))
    for place, name in enumerate((STOCK, OURS, POOLED, SMALL)):
        mine = {(r["workers"], r["start"]): r["samples_per_s"] for r in rows if r["contestant"] == name}
        at = [number + 0.2 * place for number in range(len(settings))]
        axis.bar(at, [mine[setting] for setting in settings], 0.2, label=name)
    labels = [f"2 workers\n{start}" if workers else "dataset[i]" for workers, start in settings]
    axis.set_xticks(np.arange(len(settings)) + 0.3, labels, fontsize=8)
    axis.set_yscale("log")
    axis.set_ylabel("samples/s")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    """Measure, print, write, sum up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few frames: proves that it runs")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions with other frames")
    parser.add_argument("--out", type=Path, help="write memory_pool.json and memory_pool.png here")
    args = parser.parse_args()
    if args.seeds < 1:
        parser.error(f"--seeds ({args.seeds}) must be at least 1")
    torch.set_num_threads(1)
    if not backend.install():
        raise SystemExit("our backend does not install on this LeRobot; see the line above")
    with tempfile.TemporaryDirectory() as folder:
        results: dict[str, Any] = dict(
            measure(Path(folder), quick=args.quick, seeds=1 if args.quick else args.seeds)
        )
    print(table(results))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    machine = platform.processor() or platform.machine()
    print(
        f"LeRobot {lerobot.__version__}, torch {torch.__version__}, {os.cpu_count()} cores of {machine},"
        f" load {load:.1f}"
    )
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(by_case(results), indent=2) + "\n"
        (args.out / "memory_pool.json").write_text(text, encoding="utf-8")
        draw(results, args.out / "memory_pool.png")
    print(last_line(by_case(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
