# SPDX-License-Identifier: Apache-2.0
"""The smallest training that stock LeRobot runs: a dataset without images and a small ACT."""

from pathlib import Path
from typing import Any, Final

import numpy as np

POLICY: Final = [
    "--policy.type=act",
    "--policy.device=cpu",
    "--policy.dim_model=16",
    "--policy.n_heads=2",
    "--policy.dim_feedforward=16",
    "--policy.n_encoder_layers=1",
    "--policy.chunk_size=4",
    "--policy.n_action_steps=4",
    "--policy.use_vae=false",
    "--policy.dropout=0",
    "--policy.push_to_hub=false",
]
LOOP: Final = ["--batch_size=2", "--num_workers=0", "--env_eval_freq=0", "--log_freq=1"]


def write_dataset(root: Path, episodes: int = 2) -> list[str]:
    """A dataset of 24 frames an episode, and the options that name it."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    widths = {"observation.state": 3, "observation.environment_state": 2, "action": 3}
    features = {key: {"dtype": "float32", "shape": (n,), "names": None} for key, n in widths.items()}
    dataset = LeRobotDataset.create("user/tiny", 10, features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for _ in range(episodes):
        for _ in range(24):
            frame = {key: rng.normal(size=n).astype(np.float32) for key, n in widths.items()}
            dataset.add_frame(frame | {"task": "reach"})
        dataset.save_episode()
    dataset.finalize()
    return ["--dataset.repo_id=user/tiny", f"--dataset.root={root}"]


def config(words: list[str]) -> Any:
    """LeRobot's training config from command-line words."""
    import draccus
    from lerobot.configs.train import TrainPipelineConfig

    return draccus.parse(TrainPipelineConfig, args=words)


def train(monkeypatch: Any, *words: str) -> None:
    """Run the stock loop in this process as `lerobot-train WORDS` would without plugins; logs to pytest."""
    from lerobot.scripts import lerobot_train

    monkeypatch.setattr(lerobot_train, "init_logging", lambda **_: None)
    monkeypatch.setattr("sys.argv", ["lerobot-train", *words])
    lerobot_train.train()
