# SPDX-License-Identifier: Apache-2.0
"""What the episode journal costs a recording: episodes with and without it, in turn, in one run.

    uv run python benchmarks/episode_journal.py [--quick] [--episodes 6] [--folder DIR] [--json FILE]

Two datasets of the same frames grow side by side through LeRobot's own writer, one of them journaled, an
episode each in turn, so that a busy machine weighs on both. Prints a table with the medians of `save_episode`
without and with the journal, of their ratio, and of the time spent in the journal itself, and ends with the
line `episode_journal: … ms an episode …`. What the disk is like decides much: `--folder` names another one.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.data import episode_journal, journal_files, writer_hooks

FPS = 30
EVENTS = ("frame_added", "episode_saved")


@dataclass(frozen=True)
class Shape:
    """What an episode is like: frames, cameras, height and width of their pictures, how they are kept."""

    frames: int
    cameras: int
    height: int = 480
    width: int = 640
    dtype: str = "video"

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """LeRobot's description of a frame."""
        six = {"dtype": "float32", "shape": (6,), "names": None}
        size = (self.height, self.width, 3)
        picture = {"dtype": self.dtype, "shape": size, "names": ["height", "width", "channels"]}
        cameras = {f"observation.images.{n}": picture for n in range(self.cameras)}
        return {"observation.state": six, "action": six, **cameras}


CASES = {
    "600 frames without cameras": Shape(600, 0),
    "150 frames, two 640x480 videos": Shape(150, 2),
    "150 frames as 640x480 images": Shape(150, 1, dtype="image"),
}
TINY = {
    "20 frames without cameras": Shape(20, 0),
    "10 frames, two 64x64 videos": Shape(10, 2, 64, 64),
    "10 frames as 64x64 images": Shape(10, 1, 64, 64, "image"),
}


def frames_of(shape: Shape, episode: int) -> list[dict[str, Any]]:
    """Frames of an episode: random joints, a bright square that moves over a gradient with camera noise."""
    rng = np.random.default_rng(episode)
    gradient = np.linspace(30, 200, shape.width, dtype=np.float32)[None, :, None]
    noise = rng.normal(0, 2, (shape.height, shape.width, 3)).astype(np.float32)
    background = np.clip(gradient + noise, 0, 255).astype(np.uint8)
    side = shape.height // 6
    frames = []
    for n in range(shape.frames):
        row = rng.normal(size=12).astype(np.float32)
        frame: dict[str, Any] = {"observation.state": row[:6], "action": row[6:], "task": "lift the cube"}
        for camera in range(shape.cameras):
            picture = background.copy()
            left = (4 * n + 50 * camera) % (shape.width - side)
            picture[2 * side : 3 * side, left : left + side] = (240, 220, 40)
            frame[f"observation.images.{camera}"] = picture
        frames.append(frame)
    return frames


class Journal:
    """The journal, for the time of a `with`, and how long the calls to it took.

    Args:
        on (`bool`): Whether it is on; LeRobot's own code runs otherwise.
    """

    def __init__(self, *, on: bool) -> None:
        self.on = on
        self.spent_s = 0.0

    def __enter__(self) -> "Journal":
        if not self.on:
            return self
        episode_journal.start()
        for name in EVENTS:
            setattr(episode_journal.JOURNAL, name, self._timed(getattr(episode_journal.JOURNAL, name)))
        return self

    def __exit__(self, *_: object) -> None:
        if self.on:
            for name in EVENTS:
                delattr(episode_journal.JOURNAL, name)
            episode_journal.stop()
            writer_hooks.uninstall()

    def _timed(self, call: Any) -> Any:
        def timed(*words: Any) -> None:
            started = time.perf_counter()
            call(*words)
            self.spent_s += time.perf_counter() - started

        return timed


def record(dataset: LeRobotDataset, frames: list[dict[str, Any]], *, journaled: bool) -> tuple[float, float]:
    """Milliseconds of `save_episode`, and of the journal in the whole episode."""
    with Journal(on=journaled) as journal:
        for frame in frames:
            dataset.add_frame(dict(frame))
        started = time.perf_counter()
        dataset.save_episode()
        save_ms = (time.perf_counter() - started) * 1e3
    return save_ms, journal.spent_s * 1e3


def measure(folder: Path, shape: Shape, episodes: int) -> dict[str, float]:
    """Medians over `episodes` pairs; the first pair, which imports and opens files, is left out."""
    journaled_by = {"stock": False, "journaled": True}
    datasets = {
        name: LeRobotDataset.create(
            "user/bench", FPS, shape.features, root=folder / name, use_videos=shape.dtype == "video"
        )
        for name in journaled_by
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in journaled_by}
    for episode in range(episodes + 1):
        frames = frames_of(shape, episode)
        order = list(journaled_by) if episode % 2 else list(reversed(journaled_by))
        for name in order:
            spent[name].append(record(datasets[name], frames, journaled=journaled_by[name]))
    kept = journal_files.journaled_episodes(folder / "journaled")
    if kept != list(range(episodes + 1)) or journal_files.journaled_episodes(folder / "stock"):
        raise SystemExit(f"the journal holds episodes {kept} instead of each one; see the lines above")
    for dataset in datasets.values():
        dataset.finalize()
    without = [save_ms for save_ms, _ in spent["stock"][1:]]
    with_it = [save_ms for save_ms, _ in spent["journaled"][1:]]
    return {
        "save_ms": statistics.median(without),
        "save_journaled_ms": statistics.median(with_it),
        "ratio": statistics.median(b / a for a, b in zip(without, with_it, strict=True)),
        "journal_ms": statistics.median(journal_ms for _, journal_ms in spent["journaled"][1:]),
    }


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    names = ("lerobot", "lerobot_ext", "pyarrow", "av", "torch")
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def table(content: Mapping[str, Any]) -> str:
    """Saving with and without the journal, as Markdown."""
    lines = [
        "| episode | save_episode, ms | with the journal, ms | ratio | the journal itself, ms |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['save_ms']:.0f} | {row['save_journaled_ms']:.0f} | {row['ratio']:.2f} "
        f"| {row['journal_ms']:.1f} |"
        for name, row in content["results"].items()
    ]
    return "\n".join(lines)


def last_line(content: Mapping[str, Any]) -> str:
    """What the journal costs, and by how much saving takes longer at the most."""
    rows = content["results"].values()
    spent = [row["journal_ms"] for row in rows]
    return (
        f"episode_journal: {min(spent):.0f} to {max(spent):.0f} ms an episode (median of "
        f"{content['episodes']}), save_episode at most {max(row['ratio'] for row in rows):.2f} times as long"
    )


def main() -> int:
    """Measure all shapes, print the table, write JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example: uv run python benchmarks/episode_journal.py --episodes 6 --folder /mnt/data",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny episodes, two of each: proves that it runs"
    )
    parser.add_argument("--episodes", type=int, default=6, help="episodes of each shape and side")
    parser.add_argument("--folder", type=Path, help="record on this disk; the temporary folder by default")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()
    if args.episodes < 1:
        parser.error(f"--episodes ({args.episodes}) must be at least 1")
    torch.set_num_threads(1)
    cases, episodes = (TINY, 2) if args.quick else (CASES, args.episodes)
    results = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for n, (name, shape) in enumerate(cases.items()):
            results[name] = measure(Path(folder) / str(n), shape, episodes)
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    content = {"about": about, "episodes": episodes, "results": results}
    print(table(content))
    if args.json:
        args.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(last_line(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
