# SPDX-License-Identifier: Apache-2.0
"""Small datasets to mix, and spec files that mix them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset

WIDTHS = {"observation.state": 3, "observation.environment_state": 2, "action": 3}
NAMES = {"observation.state": ["a", "b", "c"], "action": ["a", "b", "c"]}
PICTURE = (3, 32, 48)


def write_part(
    root: Path,
    lengths: tuple[int, ...] = (6, 9),
    tasks: tuple[str, ...] = ("reach",),
    offset: float = 0.0,
    scale: float = 1.0,
    fps: int = 10,
    robot: str = "koch_follower",
    cameras: dict[str, str] | None = None,
    features: dict[str, Any] | None = None,
) -> Path:
    """A dataset through LeRobot's own writer; every number of it is normal around `offset`.

    Args:
        root: Where.
        lengths: Frames of each episode.
        tasks: Of each episode, in turns.
        offset: Mean of all numbers.
        scale: Their deviation.
        fps: Frames per second.
        robot: Type.
        cameras: Name and type (`image`, `video`) of each.
        features: Instead of the usual vectors.
    """
    vectors = features or {
        key: {"dtype": "float32", "shape": (width,), "names": NAMES.get(key)} for key, width in WIDTHS.items()
    }
    pictures = {
        key: {"dtype": kind, "shape": (*PICTURE[1:], 3), "names": ["height", "width", "channels"]}
        for key, kind in (cameras or {}).items()
    }
    use_videos = "video" in (cameras or {}).values()
    dataset = LeRobotDataset.create(
        f"user/{root.name}",
        fps,
        vectors | pictures,
        root=root,
        robot_type=robot,
        use_videos=use_videos,
        rgb_encoder=RGBEncoderConfig(vcodec="h264"),
    )
    rng = np.random.default_rng(sum(lengths))
    for episode, length in enumerate(lengths):
        for step in range(length):
            frame = {
                key: (offset + scale * rng.normal(size=feature["shape"])).astype(feature["dtype"])
                for key, feature in vectors.items()
            }
            shade = np.uint8(int(offset * 10 + 20 * episode + step) % 256)
            frame |= {key: np.full((*PICTURE[1:], 3), shade, np.uint8) for key in pictures}
            dataset.add_frame(frame | {"task": tasks[episode % len(tasks)]})
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return root


def entry(root: Path, **keys: Any) -> dict[str, Any]:
    """What a spec says of a dataset in a folder."""
    return {"repo_id": f"user/{root.name}", "root": str(root), **keys}


def write_spec(path: Path, *datasets: dict[str, Any], **keys: Any) -> Path:
    """A spec file; JSON is YAML as well."""
    path.write_text(json.dumps({"datasets": list(datasets), **keys}))
    return path
