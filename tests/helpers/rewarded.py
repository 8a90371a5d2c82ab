# SPDX-License-Identifier: Apache-2.0
"""Small datasets with rewards, successes and ends, through LeRobot's own writer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def write_rewarded(
    root: Path, lengths: Sequence[int], won: Sequence[bool], reward: str = "next.reward"
) -> None:
    """Episodes whose last frame is rewarded with 1 where they succeed; `reward` may have another name."""
    vectors = {
        key: {"dtype": "float32", "shape": (3,), "names": None} for key in ("observation.state", "action")
    }
    labels = {
        reward: {"dtype": "float32", "shape": (1,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    }
    made = LeRobotDataset.create(f"user/{root.name}", 10, vectors | labels, root=root, use_videos=False)
    rng = np.random.default_rng(len(lengths))
    for length, succeeds in zip(lengths, won, strict=True):
        for step in range(length):
            ends = step == length - 1
            frame = {key: rng.normal(size=3).astype(np.float32) for key in vectors}
            frame |= {
                reward: np.array([float(ends and succeeds)], np.float32),
                "next.success": np.array([ends and succeeds]),
                "next.done": np.array([ends]),
            }
            made.add_frame(frame | {"task": "reach"})
        made.save_episode()
    made.finalize()
