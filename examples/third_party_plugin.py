# SPDX-License-Identifier: Apache-2.0
"""Write a policy plugin from the scaffold, and train it on one batch.

What you will see: the project that `lerobot-ext new policy` writes, with its tests and its CI; its policy
built by LeRobot's own factory under its new name; and a loss that falls on one batch.

    uv run python examples/third_party_plugin.py

The last line is `Plugin example: lerobot_policy_bright_idea learns (loss … to …).` To use it in stock command
lines, install it: the example prints the commands that `new` tells you.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class

from lerobot_ext.cli.main import main as lerobot_ext

PACKAGE = "lerobot_policy_bright_idea"


def main(argv: list[str] | None = None) -> None:
    """Write the project, then let its policy learn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, help="folder for the project; a temporary one by default")
    parser.add_argument("--steps", type=int, default=200, help="steps of training")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="plugin-example-") as folder:
        home = args.home or Path(folder)
        print("$ lerobot-ext new policy bright_idea")
        if lerobot_ext(["new", "policy", "bright_idea", "--dir", str(home)]) != 0:
            raise SystemExit("the project was not written")
        # An installed package is imported by LeRobot itself; this one is only a folder.
        sys.path.insert(0, str(home / PACKAGE / "src"))
        importlib.import_module(PACKAGE)
        before, after = learn(args.steps)
        sys.path.pop(0)
    print(f"\nPlugin example: {PACKAGE} learns (loss {before:.3f} to {after:.3f}).")


def learn(steps: int) -> tuple[float, float]:
    """Fit one batch; returns the first and the last loss."""
    torch.manual_seed(0)
    config = PreTrainedConfig.get_choice_class("bright_idea")(
        device="cpu",
        input_features={"observation.state": PolicyFeature(FeatureType.STATE, (6,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (6,))},
    )
    policy = get_policy_class("bright_idea")(config)
    length = len(config.action_delta_indices)
    batch = {
        "observation.state": torch.randn(8, 6),
        "action": torch.randn(8, length, 6),
        "action_is_pad": torch.zeros(8, length, dtype=torch.bool),
    }
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        loss, _ = policy.forward(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


if __name__ == "__main__":
    main()
