# SPDX-License-Identifier: Apache-2.0
"""What a camera frame and a training sample cost by stock's PyAV, by torchcodec and by ours, side by side.

Parts, selected by `--only`:

decode   a random frame of a 640x480 video: h264, hevc, AV1, keyframe intervals 1, 2 and 30
items    `dataset[i]` with three cameras and a window of 100 actions
loader   the same through a DataLoader: no workers, two forked, two spawned; as floats and as the bytes that
         `lerobot-train` asks for; CPU time of all processes
windows  items without pictures (`ram_reader.py`)
pool     episodes decoded into memory (`memory_pool.py`)
step     a training step of the quickstart through the stock `lerobot-train`, with our data path and without
startup  what the video plugin adds to the start of a command

Each contestant has a process of its own and they take turns of a few jobs, so that a busy machine weighs on
all of them; what they give is compared first, and must be equal. Prints a table for each part and one of
what the figures were to be; writes data_path.json (each case as soon as it is measured; `--resume` goes on)
and data_path.png. `--markdown` prints the README's table from that file and measures nothing.
Expected last line: `data_path: a random frame costs … of … targets reached`.

    uv run python benchmarks/data_path.py [--quick] [--only decode,items] [--seeds 3]
        [--resume] [--markdown] [--out DIR]
"""

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# Imported by the workers that are spawned, too: everything heavy comes later.
PARTS = ("decode", "items", "loader", "windows", "pool", "step", "startup")
QUICK = ("decode", "items", "loader", "windows")
LENT = "DATA_PATH_LENT"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help=f"parts, by commas (default: {','.join(PARTS)})")
    parser.add_argument("--quick", action="store_true", help=f"a minute's worth of {', '.join(QUICK)}")
    parser.add_argument("--resume", action="store_true", help="keep what --out holds, measure the rest")
    parser.add_argument(
        "--seeds", type=int, default=3, help="repetitions with other frames and items (default: %(default)s)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the README's table from --out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/data_path"))
    args = parser.parse_args()
    args.only = args.only.split(",") if args.only else list(QUICK if args.quick else PARTS)
    if args.seeds < 1:
        parser.error(f"--seeds ({args.seeds}) must be at least 1.")
    unknown = [part for part in args.only if part not in PARTS]
    if unknown:
        parser.error(f"--only does not know {', '.join(unknown)}; choose from {', '.join(PARTS)}.")
    return args


def cases(part: str, folder: Path, names: list[str], quick: bool, seeds: int) -> dict[str, Callable[[], Any]]:
    """What is measured in a part: case by case, smallest first."""
    from data_path_parts import files, loading, others, reading, starting, training

    same = {"quick": quick}
    if part == "decode":
        codecs, gops = (("AV1",), (2,)) if quick else (tuple(files.CODECS), files.GOPS)
        return {
            f"{codec} g={gop}": partial(reading.decode, folder, codec, gop, names, seeds, **same)
            for codec in codecs
            for gop in gops
        }
    everyone = [*names, "ours + columns in RAM"]
    if part == "items":
        codecs = ("AV1",) if quick else ("AV1", "h264")
        return {codec: partial(reading.items, folder, codec, everyone, seeds, **same) for codec in codecs}
    if part == "loader":
        chosen = ["2 workers, fork"] if quick else list(loading.CASES)
        return {case: partial(loading.loader, folder, case, everyone, **same) for case in chosen}
    if part == "windows":
        chosen = ["100 actions"] if quick else list(others.WINDOWS)
        return {case: partial(others.windows, folder, case, **same) for case in chosen}
    if part == "step":
        chosen = ["state only"] if quick else list(training.CASES)
        return {case: partial(training.step, folder, case, **same) for case in chosen}
    return {"CPU and imports": partial(starting.start, **same)}


def measure(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Every case that is not there yet; each is written at once."""
    from data_path_parts import others
    from data_path_parts.contestants import OURS, STOCK, TORCHCODEC, apart

    problem = apart(torchcodec_problem)
    names = [STOCK, *([] if problem else [TORCHCODEC]), OURS]
    folder = args.out.absolute() / "files"
    folder.mkdir(parents=True, exist_ok=True)
    results["about"] = about(args.quick, problem)
    for part in (part for part in PARTS if part in args.only):
        there = results["sections"].setdefault(part, {})
        if part == "pool":
            there.update(there or others.pool(folder, quick=args.quick) or {})
        else:
            for case, work in cases(part, folder, names, args.quick, args.seeds).items():
                if case not in there:
                    print(f"{part}: {case} …", file=sys.stderr, flush=True)
                    there[case] = work()
                    write(args.out, results)
        write(args.out, results)


def about(quick: bool, problem: str) -> dict[str, Any]:
    """The machine and the versions."""
    import av
    import lerobot
    import torch

    lent = " (with PyAV's FFmpeg libraries)" if os.environ.get(LENT) else ""
    return {
        "lerobot": lerobot.__version__,
        "av": av.__version__,
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torchcodec": problem or f"loaded{lent}",
        "quick": quick,
    }


def torchcodec_problem() -> str:
    """Why torchcodec cannot be loaded; empty if it can."""
    try:
        import torchcodec  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        return " ".join(str(error).split())[:160]
    return ""


def lend_ffmpeg(folder: Path) -> None:
    """Where the system has no FFmpeg for torchcodec, start again with PyAV's in its way."""
    import ctypes
    from importlib.util import find_spec

    spec = find_spec("av")
    libraries = Path(spec.origin).parents[1] / "av.libs" if spec and spec.origin else None
    if os.environ.get(LENT) or sys.platform != "linux" or libraries is None or not libraries.is_dir():
        return
    for version in range(56, 61):
        try:
            ctypes.CDLL(f"libavutil.so.{version}")
        except OSError:
            continue
        return
    folder.mkdir(parents=True, exist_ok=True)
    for library in libraries.iterdir():
        plain = re.sub(r"^(lib\w+)-[0-9a-f]{8}(\.so\.\d+).*", r"\1\2", library.name)
        for name in (library.name, plain):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(library)
    paths = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    environment = os.environ | {LENT: "1", "LD_LIBRARY_PATH": os.pathsep.join(paths)}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def write(out: Path, results: dict[str, Any]) -> None:
    """The JSON file, whole at any moment."""
    new = out / "data_path.json.new"
    new.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    new.replace(out / "data_path.json")


def main() -> int:
    """Measure, print, write, sum up."""
    args = parse()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "SVT_LOG": "1"}
    file = args.out / "data_path.json"
    results: dict[str, Any] = {"about": {}, "sections": {}}
    if args.resume or args.markdown:
        if not file.exists():
            raise SystemExit(f"{file} does not exist: measure first, with --out {args.out}")
        results = json.loads(file.read_text(encoding="utf-8"))
    if args.markdown:
        from data_path_parts import report

        print(report.readme(results["sections"]), end="")
        return 0
    if args.resume and results["about"].get("quick") != args.quick:
        raise SystemExit(f"{file} was measured {'with' if not args.quick else 'without'} --quick; remove it")
    lend_ffmpeg(args.out.absolute() / "ffmpeg")
    # Once for all contestants, which are forked; the plugin of ours is imported by those who want it.
    import torch
    from data_path_parts import report

    torch.set_num_threads(1)
    measure(args, results)
    print(report.tables(results["sections"]))
    print(report.target_table(results["sections"]))
    report.draw(results["sections"], args.out / "data_path.png")
    print(report.summary(results["sections"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
