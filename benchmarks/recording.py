# SPDX-License-Identifier: Apache-2.0
"""How fast stock `lerobot-record` records several cameras: as it comes, and with the flags we print.

    uv run python benchmarks/recording.py [--quick] [--seconds 20] [--rounds 3] [--out DIR]

First `lerobot-ext codec` finds the flags for this machine; then `lerobot-record`, a process of its own,
records an episode of a robot whose cameras cost nothing, in turn with stock's default (PNG files, encoded
when the episode is saved), with streaming and stock's default AV1, and with our flags. Prints a table of
medians, writes recording.json and recording.png to `--out`, and ends with the line `recording: …`. Let
nothing else run meanwhile.
"""

import argparse
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import av

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
START_S = 240
PNG, AV1, OURS = "PNG, then AV1 (stock's default)", "streaming, stock's AV1", "streaming, our flags"
SLOW = "Record loop is running slower"
NOISE = re.compile(r"\[libx264 @|^Svt\[", re.MULTILINE)
Figures = dict[str, float]


def environment(home: Path) -> dict[str, str]:
    """LeRobot's files in `home`, no Hub, our robot importable."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    mine = {"HF_LEROBOT_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "SVT_LOG": "1"}
    return kept | mine | {"PYTHONPATH": str(HERE)}


def find_flags(home: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What `lerobot-ext codec --json` says."""
    words = ["--cameras", args.cameras, "--size", args.size, "--fps", args.fps, "--json", "--no-store"]
    if args.quick:
        words.append("--quick")
    done = subprocess.run(
        [str(BIN / "lerobot-ext"), "codec", *map(str, words)],
        env=environment(home),
        stdout=subprocess.PIPE,
        text=True,
        timeout=1800,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"lerobot-ext codec ended with {done.returncode}; see the lines above")
    found: dict[str, Any] = json.loads(done.stdout)
    if not found["flags"]:
        able = [one for one in found["candidates"] if one["effort"] is not None and not one["stock"]]
        if not able:
            raise SystemExit("no encoder works here: `lerobot-ext doctor --video` says why")
        fastest = max(able, key=lambda one: one["effort"]["frames_per_s"])
        print(f"NOTHING HELD in the trial (a busy machine?); recording with {fastest['name']} all the same")
        found["flags"] = fastest["flags"]
    return found


def record(home: Path, name: str, flags: list[str], args: argparse.Namespace) -> Figures:
    """One episode through stock's command line."""
    report, root = home / f"{name}.json", home / name
    width, _, height = args.size.partition("x")
    command = [
        str(BIN / "lerobot-record"),
        "--bench.discover_packages_path=recording_parts",
        "--robot.type=bench_robot",
        f"--robot.report={report}",
        f"--robot.n_cameras={args.cameras}",
        f"--robot.width={width}",
        f"--robot.height={height}",
        "--teleop.type=bench_hand",
        "--dataset.repo_id=bench/recording",
        "--dataset.no_stamp=true",
        f"--dataset.root={root}",
        "--dataset.single_task=sway",
        f"--dataset.fps={args.fps}",
        "--dataset.num_episodes=1",
        f"--dataset.episode_time_s={args.seconds}",
        "--dataset.push_to_hub=false",
        "--play_sounds=false",
        *flags,
    ]
    done = subprocess.run(
        command,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_S + 30 * args.seconds,
    )
    if done.returncode or not report.exists():
        raise SystemExit(f"lerobot-record ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return figures(json.loads(report.read_text()), root, done.stdout, args.fps, args.cameras)


def figures(report: dict[str, Any], root: Path, output: str, fps: int, cameras: int) -> Figures:
    """What a recording came to, from the robot's report, the dataset and what was printed."""
    asked = report["asked_s"]
    intervals = [b - a for a, b in itertools.pairwise(asked)]
    videos = list(root.rglob("*.mp4"))
    missing = cameras * len(asked) - sum(frames_in(path) for path in videos)
    return {
        "hz": len(intervals) / (asked[-1] - asked[0]),
        "frames": len(asked),
        "late": sum(interval > 1.5 / fps for interval in intervals),
        "longest_ms": max(intervals) * 1e3,
        "stock_warnings": output.count(SLOW),
        "missing": missing,
        "save_s": report["saved_after_s"],
        "cpu_ms": report["cpu_s"] / len(asked) * 1e3,
        "mb": sum(path.stat().st_size for path in videos) / 1e6,
        "encoder_lines": len(NOISE.findall(output)),
    }


def frames_in(path: Path) -> int:
    """Frames of a video, counted."""
    with av.open(str(path)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def medians(runs: list[Figures]) -> Figures:
    """Of all rounds; of late and missing frames the most."""
    worst = ("late", "missing", "longest_ms", "stock_warnings")
    return {key: (max if key in worst else statistics.median)(run[key] for run in runs) for key in runs[0]}


def table(content: Mapping[str, Any]) -> str:
    """A Markdown table."""
    lines = [
        f"| {content['fps']} fps asked | Hz | late frames | longest, ms | missing | save, s "
        "| CPU ms a frame set | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['hz']:.1f} | {row['late']:.0f} of {row['frames']:.0f} | {row['longest_ms']:.0f} | "
        f"{row['missing']:.0f} | {row['save_s']:.1f} | {row['cpu_ms']:.0f} | {row['mb']:.1f} |"
        for name, row in content["rows"].items()
    ]
    return "\n".join(lines)


def last_line(content: Mapping[str, Any]) -> str:
    """What our flags are worth."""
    rows, fps = content["rows"], content["fps"]
    ours = rows[OURS]
    return (
        f"recording: {content['cameras']} x {content['size']} at {fps} fps: {ours['hz']:.1f} Hz and "
        f"{ours['late']:.0f} of {ours['frames']:.0f} frames late with our flags; {rows[AV1]['hz']:.1f} Hz "
        f"with stock's AV1, {rows[PNG]['hz']:.1f} Hz with PNG files"
    )


def draw(rows: dict[str, Figures], fps: int, path: Path) -> None:
    """Rate, CPU and saving, bars side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = {"hz": "Hz", "cpu_ms": "CPU ms a frame set", "save_s": "s to save the episode"}
    figure, axes = plt.subplots(1, len(shown), figsize=(12, 2.6), sharey=True)
    for axis, (key, label) in zip(axes, shown.items(), strict=True):
        bars = axis.barh(list(rows), [row[key] for row in rows.values()], color=["C0", "C1", "C2"])
        axis.bar_label(bars, fmt="%.1f", padding=2)
        axis.set_xlabel(label)
        axis.margins(x=0.2)
    axes[0].axvline(fps, color="black", linewidth=0.8)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def about() -> dict[str, Any]:
    """What it was measured on."""
    names = ("lerobot", "lerobot_ext", "av", "torch")
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def main() -> int:
    """Find the flags, record in turn, print, write, sum up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three short episodes: proves that it runs")
    parser.add_argument("--seconds", type=float, default=20, help="length of an episode")
    parser.add_argument("--rounds", type=int, default=3, help="episodes of each kind")
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--size", default="640x480", metavar="WxH")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--flags", help="take these flags instead of asking lerobot-ext codec")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write recording.json and recording.png here")
    args = parser.parse_args()
    if args.seconds < 1 or args.rounds < 1:
        parser.error("--seconds and --rounds must be at least 1")
    if args.quick:
        args.seconds, args.rounds = 3, 1
    before = about()
    print(", ".join(f"{name} {value}" for name, value in before.items()), flush=True)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        codec = find_flags(home, args) if args.flags is None else {"flags": args.flags.split()}
        print(f"our flags: {' '.join(codec['flags'])}\n", flush=True)
        kinds = {PNG: [], AV1: ["--dataset.streaming_encoding=true"], OURS: codec["flags"]}
        runs: dict[str, list[Figures]] = {kind: [] for kind in kinds}
        for turn in range(args.rounds):
            for place, (kind, flags) in enumerate(kinds.items()):
                runs[kind].append(record(home, f"{turn}-{place}", flags, args))
    rows = {kind: medians(of_kind) for kind, of_kind in runs.items()}
    content = {"about": before, "quick": args.quick, "seconds": args.seconds, "codec": codec}
    content |= {"cameras": args.cameras, "size": args.size, "fps": args.fps, "runs": runs, "rows": rows}
    print(table(content))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "recording.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        draw(rows, args.fps, args.out / "recording.png")
    print(last_line(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
