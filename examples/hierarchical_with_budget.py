# SPDX-License-Identifier: Apache-2.0
"""Train the hierarchical policy on the simulated Koch, and plan within a budget of milliseconds.

What you will see: demonstrations by the scripted expert, a training by stock `lerobot-train`, and one chunk
planned without a budget and within several: which layers ran, how many denoising steps, how long it took.

    uv run python examples/hierarchical_with_budget.py

The last line is `Budget example: … of … plans kept their budget.` With `--steps 20` it only shows the way;
for a policy of your own `lerobot-ext latency` measures layers and errors first, and choices get better.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import lerobot_policy_hierarchical_diffusion  # noqa: F401 - only stock commands look for plugins themselves
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot_env_koch.demos.recorder import DemoOptions, record_demos

TRAIN = Path(sys.executable).parent / "lerobot-train"


def main(argv: list[str] | None = None) -> None:
    """Record, train, plan."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, help="folder for all files; a temporary one by default")
    parser.add_argument("--steps", type=int, default=800, help="steps of training")
    parser.add_argument("--episodes", type=int, default=50, help="demonstrations")
    parser.add_argument("--budgets", type=float, nargs="+", default=[5, 20, 100], metavar="MS")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="budget-example-") as folder:
        home = args.home or Path(folder)
        record_demos(DemoOptions("local/lift", home / "lift", episodes=args.episodes))
        words = [
            "--policy.type=hierarchical_diffusion", "--policy.device=cpu", "--policy.push_to_hub=false",
            "--dataset.repo_id=local/lift", f"--dataset.root={home / 'lift'}", f"--output_dir={home / 'run'}",
            f"--steps={args.steps}", f"--save_freq={args.steps}", "--batch_size=32", "--num_workers=0",
        ]  # fmt: skip
        print("$ lerobot-train", *words, flush=True)
        subprocess.run([TRAIN, *words], check=True)
        kept = sum(
            plan(home / "run/checkpoints/last/pretrained_model", budget) for budget in [None, *args.budgets]
        )
    print(f"\nBudget example: {kept} of {len(args.budgets)} plans kept their budget.")


def plan(path: Path, budget_ms: float | None) -> bool:
    """Plan one chunk from the arm's rest pose; whether a budget was kept."""
    config = PreTrainedConfig.from_pretrained(path)
    config.latency_budget_ms = budget_ms
    policy = get_policy_class(config.type).from_pretrained(path, config=config)
    preprocess, postprocess = make_pre_post_processors(config, pretrained_path=str(path))
    observation = {name: torch.zeros(feature.shape) for name, feature in config.input_features.items()} | {
        "task": "Lift the red cube."
    }
    for _ in range(3):  # the first plans measure what this machine needs
        policy.reset()
        action = postprocess(policy.select_action(preprocess(dict(observation))))
    info = policy.last_info
    budget = "no budget" if budget_ms is None else f"{budget_ms:g} ms"
    print(
        f"{budget:>10}: {info['ms']['total']:6.1f} ms, {info['steps']} steps, "
        f"layers {', '.join(info['active_layers'])}; first action {[round(x, 1) for x in action[0].tolist()]}"
    )
    return bool(info.get("within_budget", False))


if __name__ == "__main__":
    main()
