# SPDX-License-Identifier: Apache-2.0
"""From logs into the environment: Q-chunking trained offline, then by its own tries.

What you will see: episodes of mixed quality on the simulated Koch, with rewards; Q-chunking trained on them
by stock `lerobot-train`; then `lerobot-ext train-online`, which lets it act, keeps what it collects as a
dataset, learns from both halves and plays the same episodes every now and then.

    uv run python examples/q_chunking_online.py

The last line is `Online example: success … % before, … % after … steps in the environment.` So few steps only
show the way; `docs/online_rl.md` has the options, `benchmarks/online_rl.py` longer runs.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from lerobot_env_koch.demos.recorder import DemoOptions, record_demos

BIN = Path(sys.executable).parent


def run(*words: str) -> None:
    """A console script of this environment, shown."""
    print("\n$", *words, flush=True)
    subprocess.run([BIN / words[0], *words[1:]], check=True)


def main(argv: list[str] | None = None) -> None:
    """Record, train on logs, train online."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, help="folder for all files; a temporary one by default")
    parser.add_argument("--task", default="reach", help="reach, lift or place")
    parser.add_argument("--episodes", type=int, default=12, help="logged, a third each of three skills")
    parser.add_argument("--steps", type=int, default=100, help="of training on the logs")
    parser.add_argument("--online_steps", type=int, default=300, help="of the environment")
    parser.add_argument(
        "--width", type=int, default=64, help="of the networks; 256 is the default of the policy"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="online-example-") as folder:
        home = args.home or Path(folder)
        logs, offline, online = home / "logs", home / "offline", home / "online"
        record_demos(DemoOptions("local/logs", logs, task=args.task, episodes=args.episodes, skill="mixed"))
        data = ["--dataset.repo_id=local/logs", f"--dataset.root={logs}"]
        run(
            "lerobot-train", "--policy.type=q_chunking", "--policy.device=cpu", "--policy.push_to_hub=false",
            f"--policy.hidden_dim={args.width}", f"--policy.actor_hidden_dim={args.width}", *data,
            f"--output_dir={offline}", f"--steps={args.steps}", f"--save_freq={args.steps}",
            "--batch_size=64", "--num_workers=0", "--env_eval_freq=0",
        )  # fmt: skip
        run(
            "lerobot-ext", "train-online",
            f"--policy.path={offline / 'checkpoints/last/pretrained_model'}", "--env.type=koch",
            f"--env.task={args.task}", *data, f"--output_dir={online}", f"--online_steps={args.online_steps}",
            f"--warmup_steps={args.online_steps // 4}", f"--eval_freq={args.online_steps}",
            "--eval_episodes=5", "--batch_size=32",
        )  # fmt: skip
        with (online / "online.csv").open(encoding="utf-8") as file:
            curve = [float(row["env/pc_success"]) for row in csv.DictReader(file)]
    print(
        f"\nOnline example: success {curve[0]:.0f} % before, {curve[-1]:.0f} % after {args.online_steps} "
        "steps in the environment."
    )


if __name__ == "__main__":
    main()
