# SPDX-License-Identifier: Apache-2.0
"""A small dataset with two video cameras, through LeRobot's own writer."""

from pathlib import Path

import numpy as np
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from make_videos import pictures

FPS = 10
LENGTHS = (9, 6, 8)
CAMERAS = ("observation.images.top", "observation.images.wrist")


def write_dataset(root: Path, codec: str) -> Path:
    """A dataset of two cameras and three episodes in one file, through LeRobot's own writer."""
    video = {"dtype": "video", "shape": (64, 96, 3), "names": ["height", "width", "channels"]}
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
    } | dict.fromkeys(CAMERAS, video)
    encoder = RGBEncoderConfig(vcodec=codec)
    dataset = LeRobotDataset.create(
        "user/small", FPS, features, root=root, use_videos=True, rgb_encoder=encoder
    )
    for episode, length in enumerate(LENGTHS):
        views = [pictures(length, 64, 96, seed=10 * episode + view) for view in range(2)]
        for step in range(length):
            frame = {key: np.full(2, step, np.float32) for key in ("observation.state", "action")}
            frame |= {key: views[view][step] for view, key in enumerate(CAMERAS)}
            dataset.add_frame({**frame, "task": "lift"})
        dataset.save_episode()
    dataset.finalize()
    return root
