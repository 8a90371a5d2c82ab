# SPDX-License-Identifier: Apache-2.0
"""What our plugins add to the start of a stock LeRobot command.

Runs `lerobot-train --help` (or another console script) in turn with and without our distributions on the
path, A B A B …, and prints the medians of both sides and of the paired differences, in wall and in CPU time.
The least of each side is printed too, and the steadiest figure of all: the import time of the modules that
only our plugins load, by `python -X importtime`.
Expected last line: `plugins add … ms …`.

    uv run python benchmarks/startup.py [--quick] [--runs 9] [--command lerobot-train] [--out DIR]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

BUDGET_MS = 150.0


def our_distributions() -> list[metadata.Distribution]:
    """The installed distributions of this workspace: the core and all that plug into it."""
    plugins = {ep.dist.name for ep in metadata.entry_points(group="lerobot_ext.plugins") if ep.dist}
    names = sorted(plugins | {"lerobot_ext"})
    return [metadata.distribution(name) for name in names]


def source_root(dist: metadata.Distribution) -> Path:
    """The folder that `sys.path` needs for `dist`'s package: its source tree if the install is editable."""
    url = json.loads(dist.read_text("direct_url.json") or "{}").get("url", "")
    if not url.startswith("file://"):
        return Path(str(dist.locate_file("")))
    tree = Path(url.removeprefix("file://"))
    return tree / "src" if (tree / "src").is_dir() else tree


def site_without(folder: Path, left_out: set[str]) -> Path:
    """A folder of links to every entry of site-packages but the metadata and hooks of `left_out`."""
    folder.mkdir()
    hidden = {name.lower() for name in left_out}
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        owner = entry.name.lower().lstrip("_").split("-")[0].removesuffix(".pth")
        if owner not in hidden:
            (folder / entry.name).symlink_to(entry)
    return folder


def only(path: list[Path]) -> dict[str, str]:
    """The environment in which `python -S` finds exactly `path` beside the standard library."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return env | {"PYTHONPATH": os.pathsep.join(map(str, path)), "HF_HUB_OFFLINE": "1"}


def timed(module: str, path: list[Path]) -> tuple[float, float]:
    """Wall and CPU seconds of one `python -m module --help` with only `path` for third-party packages."""
    env = only(path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    # -S: no site-packages of the environment, only what PYTHONPATH names.
    command = [sys.executable, "-S", "-m", module, "--help"]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def import_times(module: str, path: list[Path]) -> dict[str, float]:
    """Milliseconds each module took to import in one `python -m module --help`, its own imports left out."""
    env = only(path)
    command = [sys.executable, "-S", "-X", "importtime", "-m", module, "--help"]
    lines = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stderr.splitlines()
    rows = [line.removeprefix("import time:").split("|") for line in lines if line.startswith("import time:")]
    return {name.strip(): int(own) / 1e3 for own, _, name in rows if own.strip().isdigit()}


def measure(module: str, runs: int) -> tuple[dict[str, list[tuple[float, float]]], dict[str, float]]:
    """Interleaved timings with and without our distributions, and the import times of what only they load."""
    ours = our_distributions()
    with tempfile.TemporaryDirectory() as tmp:
        bare = site_without(Path(tmp) / "bare", {d.name for d in ours})
        metadata_only = Path(tmp) / "ours"
        metadata_only.mkdir()
        for dist in ours:
            info = Path(str(dist._path))  # type: ignore[attr-defined]
            (metadata_only / info.name).symlink_to(info)
        paths = {"without": [bare], "with": [bare, metadata_only, *dict.fromkeys(map(source_root, ours))]}
        # These serve as warm-up too.
        imports = {side: import_times(module, path) for side, path in paths.items()}
        ours_only = {name: ms for name, ms in imports["with"].items() if name not in imports["without"]}
        timings: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
        for _ in range(runs):
            for side, path in paths.items():
                timings[side].append(timed(module, path))
    return timings, ours_only


def summarise(timings: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    """Medians of both sides and of the paired differences, in seconds and milliseconds."""
    summary: dict[str, float] = {}
    for column, label in enumerate(("wall", "cpu")):
        for side, rows in timings.items():
            summary[f"{side}_{label}_s"] = statistics.median(row[column] for row in rows)
            summary[f"{side}_{label}_least_s"] = min(row[column] for row in rows)
        pairs = zip(timings["with"], timings["without"], strict=True)
        summary[f"added_{label}_ms"] = statistics.median(1e3 * (a[column] - b[column]) for a, b in pairs)
    return summary


def last_line(record: Mapping[str, Any]) -> str:
    """What our plugins add."""
    least = 1e3 * (record["with_cpu_least_s"] - record["without_cpu_least_s"])
    return (
        f"plugins add {record['added_cpu_ms']:.0f} ms CPU ({least:.0f} ms by the least of each side), "
        f"{record['added_wall_ms']:.0f} ms wall to {record['command']} (budget {BUDGET_MS:.0f} ms)"
    )


def draw(timings: dict[str, list[tuple[float, float]]], title: str, path: Path) -> None:
    """Draw each run's CPU time, both sides in pairs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for side, rows in timings.items():
        axes.plot([row[1] for row in rows], "o-", label=f"{side} our plugins")
    axes.set(xlabel="pair", ylabel="CPU s", title=title, ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--command", default="lerobot-train", help="a stock LeRobot console script")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="two pairs: only shows that it runs")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    args = parser.parse_args()
    script = next(ep for ep in metadata.entry_points(group="console_scripts") if ep.name == args.command)
    timings, ours_only = measure(script.module, 2 if args.quick else args.runs)
    summary = summarise(timings)
    print(f"| {args.command} --help | wall s | CPU s | CPU s, least |\n|---|---|---|---|")
    for side in timings:
        figures = [summary[f"{side}_{figure}_s"] for figure in ("wall", "cpu", "cpu_least")]
        print(f"| {side} our plugins | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |")
    args.out.mkdir(parents=True, exist_ok=True)
    print(
        f"{len(ours_only)} modules loaded only with our plugins: {sum(ours_only.values()):.0f} ms to import"
    )
    record = {
        "imports_ms": ours_only,
        "command": args.command,
        "runs": len(timings["with"]),
        **summary,
        "timings": timings,
    }
    (args.out / "startup.json").write_text(json.dumps(record, indent=2))
    draw(timings, f"{args.command} --help", args.out / "startup.png")
    print(last_line(record))


if __name__ == "__main__":
    main()
