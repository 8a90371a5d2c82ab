# SPDX-License-Identifier: Apache-2.0
"""Ask two checkpoints, without a robot, how far they are from episodes that they have never seen.

What you will see: demonstrations on the simulated Koch, a small stock ACT trained on four fifths of them, and
what `lerobot-ext offline-eval` says of an early and of the last checkpoint on the rest, beside those who
stand still or repeat the previous action.

    uv run python examples/offline_eval.py

The last line is `Offline example: squared error … after … steps, … after …, … standing still.` Open loop: a
small error does not prove that an arm would succeed (`docs/evaluate.md`).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lerobot_env_koch.demos.recorder import DemoOptions, record_demos

from lerobot_ext.cli.main import main as lerobot_ext

TRAIN = Path(sys.executable).parent / "lerobot-train"


def error(found: dict[str, Any]) -> float:
    """The mean squared error over all joints and frames, in the arm's units."""
    return float(found["whole"]["mse"]["value"])


def main(argv: list[str] | None = None) -> None:
    """Record, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, help="folder for all files; a temporary one by default")
    parser.add_argument("--episodes", type=int, default=20, help="demonstrations; a fifth is held out")
    parser.add_argument("--steps", type=int, default=400, help="of training; an even number")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="offline-eval-example-") as folder:
        home = args.home or Path(folder)
        record_demos(DemoOptions("local/lift", home / "lift", episodes=args.episodes))
        data = ["--dataset.repo_id=local/lift", f"--dataset.root={home / 'lift'}", "--dataset.eval_split=0.2"]
        words = [
            "--policy.type=act", "--policy.device=cpu", "--policy.push_to_hub=false", "--policy.dim_model=64",
            "--policy.dim_feedforward=128", "--policy.chunk_size=20", "--policy.n_action_steps=10",
            "--policy.optimizer_lr=3e-4", *data, f"--output_dir={home / 'run'}", f"--steps={args.steps}",
            f"--save_freq={args.steps // 2}", "--batch_size=16", "--num_workers=0",
        ]  # fmt: skip
        print("$ lerobot-train", *words, flush=True)
        subprocess.run([TRAIN, *words], check=True)
        early, last = (f"{home / 'run/checkpoints'}/{n:06d}" for n in (args.steps // 2, args.steps))
        paths = [f"--policy.path={early}/pretrained_model", f"{last}/pretrained_model"]
        ask = [
            "offline-eval",
            *paths,
            *data,
            "--mode",
            "select",
            "--no-pictures",
            "--out",
            str(home / "eval"),
        ]
        print("\n$ lerobot-ext", *ask, flush=True)
        if lerobot_ext(ask) != 0:
            raise SystemExit("offline-eval failed")
        found = json.loads((home / "eval/offline_eval.json").read_text(encoding="utf-8"))
    first, second = (error(policy["modes"]["select"]["errors"]) for policy in found["policies"])
    still = error(found["baselines"]["select"]["hold the present state"])
    print(
        f"\nOffline example: squared error {first:.1f} after {args.steps // 2} steps, {second:.1f} after "
        f"{args.steps}, {still:.1f} standing still."
    )


if __name__ == "__main__":
    main()
