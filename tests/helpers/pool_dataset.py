# SPDX-License-Identifier: Apache-2.0
"""Ten short episodes of two cameras, so that a quarter of them fits where all do not."""

from pathlib import Path

import numpy as np
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from make_videos import pictures

FPS = 10
LENGTHS = (6, 4, 7, 5, 6, 3, 7, 6, 5, 4)
CAMERAS = ("observation.images.top", "observation.images.wrist")


def write_dataset(root: Path) -> Path:
    """Through LeRobot's own writer; all episodes in one file a camera."""
    video = {"dtype": "video", "shape": (48, 64, 3), "names": ["height", "width", "channels"]}
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
    } | dict.fromkeys(CAMERAS, video)
    dataset = LeRobotDataset.create(
        "user/ten", FPS, features, root=root, use_videos=True, rgb_encoder=RGBEncoderConfig(vcodec="h264")
    )
    for episode, length in enumerate(LENGTHS):
        views = [pictures(length, 48, 64, seed=10 * episode + view) for view in range(2)]
        for step in range(length):
            frame = {key: np.full(2, step, np.float32) for key in ("observation.state", "action")}
            frame |= {key: views[view][step] for view, key in enumerate(CAMERAS)}
            dataset.add_frame({**frame, "task": "lift" if episode % 2 else "place"})
        dataset.save_episode()
    dataset.finalize()
    return root
