# SPDX-License-Identifier: Apache-2.0
"""From an HDF5 log to an offline-RL policy: convert, label, train.

What you will see: a synthetic log with three cameras and sixteen joints (or your own, `--log`), what is in
it, the LeRobot dataset made of it, rewards of -1 a step until success, and LAPO trained by `lerobot-train`.

    uv run python examples/lapo_from_hdf5.py

The last line is `LAPO example: … frames, trained … steps.` `lerobot-ext lapo-recipe small` has the settings
for a log of your size; `lerobot-ext fqe RUN` ranks the checkpoints without a robot.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from lerobot_ext.cli.main import main as lerobot_ext_main

TRAIN = Path(sys.executable).parent / "lerobot-train"


def lerobot_ext(*words: str) -> None:
    """A command of ours, shown and run in this process."""
    print("\n$ lerobot-ext", *words, flush=True)
    if lerobot_ext_main(list(words)) != 0:
        raise SystemExit(f"lerobot-ext {words[0]} failed")


def main(argv: list[str] | None = None) -> None:
    """Convert, label, train."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, help="folder for all files; a temporary one by default")
    parser.add_argument("--log", type=Path, help="an HDF5 file of your own; a synthetic one by default")
    parser.add_argument("--frames", type=int, default=600, help="of the synthetic one")
    parser.add_argument("--steps", type=int, default=200, help="steps of training")
    parser.add_argument("more", nargs="*", help="further options for lerobot-train, after --")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="lapo-example-") as folder:
        home = args.home or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        log, root = args.log or home / "log.hdf5", home / "dataset"
        if args.log is None:
            lerobot_ext("convert", "hdf5", str(log), "--sample", str(args.frames))
        lerobot_ext("convert", "hdf5", str(log), "--validate")
        lerobot_ext("convert", "hdf5", str(log), "--repo_id=me/log", f"--root={root}", "--fps=30")
        lerobot_ext("label", str(root), "--reward=step_cost", "--success-from=done", "--in-place")
        words = [
            "--policy.type=lapo", "--policy.device=cpu", "--policy.push_to_hub=false",
            "--dataset.repo_id=me/log", f"--dataset.root={root}", f"--output_dir={home / 'run'}",
            f"--steps={args.steps}", "--batch_size=8", "--num_workers=0", *args.more,
        ]  # fmt: skip
        print("\n$ lerobot-train", *words, flush=True)
        subprocess.run([TRAIN, *words], check=True)
        frames = json.loads((root / "meta/info.json").read_text(encoding="utf-8"))["total_frames"]
    print(f"\nLAPO example: {frames} frames, trained {args.steps} steps.")


if __name__ == "__main__":
    main()
