# SPDX-License-Identifier: Apache-2.0
"""Train one policy by two processes, as on two GPUs, on a computer that has none.

What you will see: stock `lerobot-train` started twice by `torchrun`; accelerate joins both (DDP over gloo),
each takes batches of its own, and the first one logs and saves.

    uv run python examples/two_processes.py

The last line is `Two-process example: … processes, checkpoint of step …, loss …` On two GPUs leave
`--policy.device=cpu` out; `accelerate launch` does the same.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lerobot_env_koch.demos.recorder import DemoOptions, record_demos

TRAIN = Path(sys.executable).parent / "lerobot-train"


def main(argv: list[str] | None = None) -> None:
    """Record demonstrations and train on them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, help="folder for all files; a temporary one by default")
    parser.add_argument("--steps", type=int, default=100, help="steps of training")
    parser.add_argument("--episodes", type=int, default=10, help="demonstrations")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16, help="of each process")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="two-processes-") as folder:
        home = args.home or Path(folder)
        record_demos(DemoOptions("local/lift", home / "lift", episodes=args.episodes))
        words = [
            "--policy.type=hierarchical_diffusion", "--policy.device=cpu", "--policy.push_to_hub=false",
            "--dataset.repo_id=local/lift", f"--dataset.root={home / 'lift'}", f"--output_dir={home / 'run'}",
            f"--steps={args.steps}", f"--batch_size={args.batch_size}", "--num_workers=0", "--log_freq=1",
        ]  # fmt: skip
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={args.processes}"]
        print("$ torchrun", *launcher[2:], "$(which lerobot-train)", *words, flush=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *launcher, TRAIN, *words], env=environment, check=True)

        state = home / "run/checkpoints/last/training_state/training_step.json"
        saved = json.loads(state.read_text(encoding="utf-8"))
        with (home / "run/metrics.csv").open(encoding="utf-8") as file:
            loss = float(list(csv.DictReader(file))[-1]["loss"])
    print(
        f"\nTwo-process example: {saved['num_processes']} processes, checkpoint of step {saved['step']}, "
        f"loss {loss:.3f}"
    )


if __name__ == "__main__":
    main()
