# SPDX-License-Identifier: Apache-2.0
"""An HDF5 file into a LeRobotDataset: `lerobot-ext convert` beside LeRobot's own `add_frame` loop.

    uv run python benchmarks/convert.py [--quick] [--rounds N] [--out DIR]

Both read the same file and write videos with the same encoder settings; rounds alternate. Everything counts
that a dataset takes: looking through the file and verifying what was written too, which the loop does not do.
Prints a Markdown table, writes `convert.json`, ends with one summary line. Needs `lerobot_ext[hdf5]`.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("SVT_LOG", "1")

import av
import h5py
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.importing.convert import Options, Progress, convert
from lerobot_ext.importing.features import features_of
from lerobot_ext.importing.layouts import LAPO_CAMERAS
from lerobot_ext.importing.sample import write_sample
from lerobot_ext.importing.survey import survey

FPS = 30
CODEC = "libsvtav1"


def naive(source: Path, root: Path, *, streaming: bool) -> None:
    """What a script of twenty lines does: one frame after the other through `add_frame`."""
    features = features_of(survey([source]), video=True)
    dataset = LeRobotDataset.create("me/naive", FPS, features, root=root, streaming_encoding=streaming)
    with h5py.File(source) as file:
        done, out = file["terminals"][()] != 0, file["timeouts"][()] != 0
        for row in range(len(done)):
            frame = {
                f"observation.images.{name.removesuffix('_image')}": file[f"observations/{name}"][row]
                for name in LAPO_CAMERAS
            }
            frame["observation.state"] = file["observations/joint"][row]
            frame["action"] = file["actions"][row]
            frame["next.reward"] = file["rewards"][row : row + 1].astype(np.float32)
            frame["next.done"], frame["next.truncated"] = done[row : row + 1], out[row : row + 1]
            dataset.add_frame(frame | {"task": "lift"})
            if done[row] or out[row]:
                dataset.save_episode()
    dataset.finalize()


def ours(source: Path, root: Path) -> None:
    """The same file through `lerobot_ext.importing`, verified."""
    quiet = Progress(lambda stage, total, done: None, lambda count: None)
    convert(survey([source]), Options("me/ours", root, FPS, "lift", CODEC), quiet)


CONTESTANTS = {
    "add_frame loop": lambda source, root: naive(source, root, streaming=False),
    "add_frame loop, streaming encoder": lambda source, root: naive(source, root, streaming=True),
    "lerobot-ext convert": ours,
}


def measure(size: int, n_frames: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Frames a second of every contestant, a number a round."""
    source = folder / f"{size}.hdf5"
    write_sample(source, "lapo", n_frames, size=size)
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name, contestant in CONTESTANTS.items():
            root = folder / f"{size}-{number}-{len(name)}"
            start = time.perf_counter()
            contestant(source, root)
            rates[name].append(n_frames / (time.perf_counter() - start))
            found = LeRobotDataset("me/x", root=root)
            assert found.num_frames == n_frames, name
            print(f"  {size} px, round {number}: {name}: {rates[name][-1]:.1f} frames/s", file=sys.stderr)
    return rates


def table(record: Mapping[str, Any]) -> str:
    """Medians of all contestants, as Markdown."""
    lines = [
        "| picture | " + " | ".join(CONTESTANTS) + " | ratio to the loop |",
        "|---" * (len(CONTESTANTS) + 2) + "|",
    ]
    for size, rates in record["frames_per_s"].items():
        medians = " | ".join(f"{statistics.median(each):.0f}" for each in rates.values())
        lines.append(f"| {size}x{size} | {medians} | {record['ratio'][size]:.1f} |")
    return "\n".join(lines)


def last_line(record: Mapping[str, Any]) -> str:
    """The least gain."""
    return f"convert: {min(record['ratio'].values()):.1f} times the frames/s of the add_frame loop, at least"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="prove that it runs, in less than a minute")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    args = parser.parse_args()
    av.logging.set_libav_level(av.logging.ERROR)
    sizes = {84: 600} if args.quick else {84: 1000, 240: 300, 480: 200}
    rounds = 1 if args.quick else args.rounds
    with TemporaryDirectory() as folder:
        # The first conversion of a process pays for imports and pools.
        write_sample(Path(folder) / "warm.hdf5", "lapo", 20, size=64)
        ours(Path(folder) / "warm.hdf5", Path(folder) / "warm")
        measured = {size: measure(size, count, rounds, Path(folder)) for size, count in sizes.items()}
    print(f"\n3 cameras, {CODEC}, frames/s (a frame is all cameras), median of {rounds}\n")
    loop, *_, own = CONTESTANTS
    ratios = {
        size: statistics.median(rates[own]) / statistics.median(rates[loop])
        for size, rates in measured.items()
    }
    record = {"codec": CODEC, "cpus": os.cpu_count(), "frames_per_s": measured, "ratio": ratios}
    print(table(record))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "convert.json").write_text(json.dumps(record, indent=2))
    print(f"\n{last_line(record)}")


if __name__ == "__main__":
    main()
