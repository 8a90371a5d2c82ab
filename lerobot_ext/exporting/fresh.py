# SPDX-License-Identifier: Apache-2.0
"""Acts with an exported policy as LeRobot alone would; a program, run by path: words are FOLDER and FILE.

FILE has the observations, and gets the actions. Plugins cannot be imported, as on a machine without them.
"""

import importlib.abc
import sys
from pathlib import Path
from typing import Any


class _WithoutPlugins(importlib.abc.MetaPathFinder):
    """Refuses every package whose name says that it is for LeRobot."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0].startswith("lerobot_"):
            raise ModuleNotFoundError(f"{name} is not here: an exported policy has to do without")


def main(words: list[str]) -> int:
    """Load, act, and write the actions beside the observations."""
    sys.meta_path.insert(0, _WithoutPlugins())
    import torch
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    folder, file = Path(words[0]), Path(words[1])
    asked = torch.load(file, weights_only=True)
    torch.set_num_threads(asked["threads"])
    config = PreTrainedConfig.from_pretrained(folder)
    config.device = "cpu"
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(
        config, pretrained_path=str(folder), preprocessor_overrides={"device_processor": {"device": "cpu"}}
    )
    policy.eval()
    actions = []
    for seed, observation in enumerate(asked["observations"]):
        torch.manual_seed(seed)
        policy.reset()
        with torch.inference_mode():
            actions.append(after(policy.select_action(before(observation))).clone())
    torch.save(torch.stack(actions), file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
