# SPDX-License-Identifier: Apache-2.0
"""What a camera frame and a training sample cost by stock's PyAV, by torchcodec and by ours, side by side.

    uv run python benchmarks/data_path.py [--quick] [--seeds 3] [--out DIR]

Prints three tables: a random frame of a 640x480 video by codec and keyframe interval; an item of a dataset
with three cameras and a window of 100 actions; the same through a DataLoader with two workers, forked and
spawned. The contestants take turns of a few frames, so that a busy machine weighs on all of them; CPU
milliseconds count all threads of the process that decodes. Writes data_path.json and data_path.png to
`--out`, and ends with the line `data_path: …`. What all contestants give is compared first: it must be equal.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SVT_LOG", "1")

import av
import lerobot
import numpy as np
import torch
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets import video_utils
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_camera_pyav import backend

from lerobot_ext.data import ram_reader
from lerobot_ext.recording.scene import scene

FPS, HEIGHT, WIDTH = 30, 480, 640
CAMERAS = tuple(f"observation.images.{name}" for name in ("top", "side", "wrist"))
CODECS = {"AV1": "libsvtav1", "h264": "h264", "hevc": "hevc"}
STOCK, TORCHCODEC, OURS, OURS_COLUMNS = "stock pyav", "torchcodec", "ours", "ours + columns in RAM"
BACKENDS = {STOCK: "pyav_stock", TORCHCODEC: "torchcodec", OURS: "pyav", OURS_COLUMNS: "pyav"}
Cost = dict[str, float]
REFUSALS = (video_utils.FrameTimestampError, RuntimeError, IndexError)


def write_video(path: Path, codec: str, gop: int, n: int) -> Path:
    """One file with the options that LeRobot gives its encoder."""
    options = RGBEncoderConfig(vcodec=codec, g=gop).get_codec_options(as_strings=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in scene(n, seed=gop):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def write_dataset(root: Path, episodes: int, length: int) -> None:
    """Three cameras, joints and actions, through LeRobot's own writer with its default codec."""
    video = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    joints = {"dtype": "float32", "shape": (6,), "names": None}
    features = {"observation.state": joints, "action": joints} | dict.fromkeys(CAMERAS, video)
    dataset = LeRobotDataset.create(
        "user/bench", FPS, features, root=root, use_videos=True, streaming_encoding=True
    )
    rng = np.random.default_rng(0)
    for episode in range(episodes):
        views = [scene(length, seed=9 * episode + view) for view in range(len(CAMERAS))]
        for pictures in zip(*views, strict=True):
            frame: dict[str, Any] = dict(zip(CAMERAS, pictures, strict=True))
            frame |= {key: rng.normal(size=6).astype(np.float32) for key in ("observation.state", "action")}
            dataset.add_frame({**frame, "task": "lift the cube"})
        dataset.save_episode()
    dataset.finalize()


def contestants(columns: bool) -> list[str]:
    """Who takes part; torchcodec only where it can be loaded."""
    names = [STOCK, *([] if backend.torchcodec_problem() else [TORCHCODEC]), OURS]
    return [*names, OURS_COLUMNS] if columns else names


def in_turns(calls: dict[str, Callable[[Any], object]], jobs: list[Any], turn: int) -> dict[str, Cost]:
    """Median CPU and wall milliseconds of each call over all jobs, `turn` jobs at a time.

    `misses` counts the jobs that it refused: stock's PyAV and torchcodec do not find all frames of hevc.
    """
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for start in range(0, len(jobs), turn):
        for name, call in calls.items():
            for job in jobs[start : start + turn]:
                begun_cpu, begun = time.process_time(), time.perf_counter()
                try:
                    call(job)
                except REFUSALS:
                    continue
                wall = time.perf_counter() - begun
                spent[name].append((time.process_time() - begun_cpu, wall))
    return {
        name: {
            "cpu_ms": statistics.median(cpu for cpu, _ in spent[name]) * 1e3,
            "wall_ms": statistics.median(wall for _, wall in spent[name]) * 1e3,
            "misses": float(len(jobs) - len(spent[name])),
        }
        for name in calls
    }


def random_frames(path: Path, n: int, reads: int, seed: int) -> dict[str, Cost]:
    """One frame a call, at random, as uint8."""

    def reader(name: str) -> Callable[[float], torch.Tensor]:
        return lambda when: video_utils.decode_video_frames(
            path, [when], 1e-4, BACKENDS[name], return_uint8=True
        )

    calls = {name: reader(name) for name in contestants(columns=False)}
    times = [i / FPS for i in np.random.default_rng(seed).integers(0, n, reads).tolist()]
    for when in times[:3]:
        frames = [frame for call in calls.values() if (frame := found(call, when)) is not None]
        if not all(torch.equal(frame, frames[0]) for frame in frames):
            raise SystemExit(f"{path.name}: the frames differ; the comparison would mean nothing")
    return in_turns(calls, times, turn=5)


def found(read: Callable[[float], torch.Tensor], when: float) -> torch.Tensor | None:
    """A frame, or nothing where its reader does not find it."""
    try:
        return read(when)
    except REFUSALS:
        return None


@contextmanager
def columns_in_ram(wanted: bool) -> Iterator[None]:
    """Datasets opened here have, or have not, their columns in RAM."""
    (ram_reader.install if wanted else ram_reader.uninstall)()
    try:
        yield
    finally:
        ram_reader.uninstall()


def open_datasets(root: Path) -> dict[str, LeRobotDataset]:
    """The same dataset for each contestant, with a window of 100 actions."""
    opened = {}
    for name in contestants(columns=True):
        with columns_in_ram(name == OURS_COLUMNS):
            opened[name] = LeRobotDataset(
                "user/bench",
                root=root,
                video_backend=BACKENDS[name],
                delta_timestamps={"action": [i / FPS for i in range(100)]},
            )
    return opened


def items(root: Path, reads: int, seed: int) -> dict[str, Cost]:
    """`dataset[i]` at random."""
    datasets = open_datasets(root)
    rows = np.random.default_rng(seed).integers(0, len(datasets[STOCK]), reads).tolist()
    for row in rows[:2]:
        expected = datasets[STOCK][row]
        for name, dataset in datasets.items():
            got = dataset[row]
            if any(not torch.equal(got[k], v) for k, v in expected.items() if isinstance(v, torch.Tensor)):
                raise SystemExit(f"{name}: item {row} differs; the comparison would mean nothing")
    return in_turns({name: dataset.__getitem__ for name, dataset in datasets.items()}, rows, turn=3)


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


def loader(root: Path, start: str, batches: int, turns: int, seed: int) -> dict[str, Cost]:
    """Batches of 8 by two workers, which stay alive; each turn is one contestant's `batches`."""
    loaders = {}
    # Forked workers inherit torchcodec's open decoders, and fail on a file position that they share.
    video_utils._default_decoder_cache.clear()
    for name, dataset in open_datasets(root).items():
        rows = np.random.default_rng(seed).integers(0, len(dataset), batches * 8).tolist()
        loaders[name] = torch.utils.data.DataLoader(
            Timed(dataset, rows),
            batch_size=8,
            num_workers=2,
            multiprocessing_context=start,
            persistent_workers=True,
        )
    cpu: dict[str, list[float]] = {name: [] for name in loaders}
    rate: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(turns + 1):  # the first starts the workers and opens the files: it does not count
        for name, batches_of in loaders.items():
            begun = time.perf_counter()
            spent = [batch["cpu_ms"].tolist() for batch in batches_of]
            if turn:
                rate[name].append(batches * 8 / (time.perf_counter() - begun))
                cpu[name] += [cost for batch in spent for cost in batch]
    return {
        name: {"cpu_ms": statistics.median(cpu[name]), "samples_per_s": statistics.median(rate[name])}
        for name in loaders
    }


def table(title: str, rows: dict[str, dict[str, Cost]], columns: dict[str, str]) -> str:
    """A Markdown table, one line a case and contestant, with the ratios to stock's."""
    lines = [f"| {title} | by | {' | '.join(columns.values())} |", "|---" * (len(columns) + 2) + "|"]
    for case, costs in rows.items():
        for name, cost in costs.items():
            cells = []
            for key in columns:
                better = (
                    cost[key] / costs[STOCK][key]
                    if key == "samples_per_s"
                    else (costs[STOCK][key] / cost[key])
                )
                cells.append(f"{cost[key]:.1f} ({better:.1f}x)")
            missed = f" (misses {cost['misses']:.0f})" if cost.get("misses") else ""
            lines.append(f"| {case} | {name}{missed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(results: dict[str, Any], path: Path) -> None:
    """CPU milliseconds of a random frame and of an item, bars side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    cases = {**results["frames"], **results["items"]}
    names = [name for name in BACKENDS if any(name in costs for costs in cases.values())]
    figure, axis = plt.subplots(figsize=(1.3 * len(cases) + 2, 4))
    for place, name in enumerate(names):
        there = [(i, costs[name]["cpu_ms"]) for i, costs in enumerate(cases.values()) if name in costs]
        axis.bar([i + 0.2 * place for i, _ in there], [cost for _, cost in there], 0.2, label=name)
    axis.set_xticks(np.arange(len(cases)) + 0.3, [case.replace(" ", "\n") for case in cases], fontsize=8)
    axis.set_ylabel("CPU ms")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def pooled(runs: list[dict[str, Cost]]) -> dict[str, Cost]:
    """The medians over seeds."""
    return {
        name: {key: statistics.median(run[name][key] for run in runs) for key in runs[0][name]}
        for name in runs[0]
    }


def measure(folder: Path, quick: bool, seeds: int) -> dict[str, Any]:
    """Everything, smallest first."""
    gops, codecs, n = ((2,), {"AV1": "libsvtav1"}, 20) if quick else ((1, 2, 30), CODECS, 90)
    results: dict[str, Any] = {"frames": {}, "items": {}, "loader": {}}
    for label, codec in codecs.items():
        for gop in gops:
            path = write_video(folder / f"{label}-{gop}.mp4", codec, gop, n)
            runs = [random_frames(path, n, 10 if quick else 60, seed) for seed in range(seeds)]
            results["frames"][f"{label} g={gop}"] = pooled(runs)
    root = folder / "bench"
    write_dataset(root, episodes=2, length=20 if quick else 150)
    runs = [items(root, 6 if quick else 60, seed) for seed in range(seeds)]
    results["items"]["dataset[i], 3 cameras"] = pooled(runs)
    for start in ("fork",) if quick else ("fork", "spawn"):
        results["loader"][f"DataLoader, 2 workers, {start}"] = loader(
            root, start, *((1, 1) if quick else (5, seeds)), seed=0
        )
    return results


def main() -> int:
    """Measure, print, write, sum up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few frames of one codec: proves that it runs")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions with other frames")
    parser.add_argument("--out", type=Path, help="write data_path.json and data_path.png here")
    args = parser.parse_args()
    if args.seeds < 1:
        parser.error(f"--seeds ({args.seeds}) must be at least 1")
    torch.set_num_threads(1)
    if not backend.install():
        raise SystemExit("our backend does not install on this LeRobot; see the line above")
    problem = backend.torchcodec_problem()
    if problem:
        print(f"torchcodec takes no part: {problem}\n")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), args.quick, 1 if args.quick else args.seeds)
    both = {"cpu_ms": "CPU ms", "wall_ms": "wall ms"}
    print(table("random frame", results["frames"], both))
    print(table("item", results["items"], both))
    print(table("loader", results["loader"], {"cpu_ms": "CPU ms a sample", "samples_per_s": "samples/s"}))
    results["about"] = {
        "lerobot": lerobot.__version__,
        "av": av.__version__,
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torchcodec": problem or "loaded",
        "quick": args.quick,
    }
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "data_path.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        draw(results, args.out / "data_path.png")
    frames = [costs[STOCK]["cpu_ms"] / costs[OURS]["cpu_ms"] for costs in results["frames"].values()]
    [item] = results["items"].values()
    print(
        f"data_path: a random frame costs {min(frames):.1f} to {max(frames):.1f} times less CPU than stock's "
        f"PyAV, an item of 3 cameras {item[STOCK]['cpu_ms'] / item[OURS_COLUMNS]['cpu_ms']:.1f} times less "
        f"CPU and {item[STOCK]['wall_ms'] / item[OURS_COLUMNS]['wall_ms']:.1f} times less time"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
