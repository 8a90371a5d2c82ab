# SPDX-License-Identifier: Apache-2.0
"""Made-up datasets and robots: the features, statistics, batches and observations LeRobot hands over.

Shapes: `B` samples or robots, `T` actions of a chunk, `S` frames of an observation, `D` width of a feature.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.utils.constants import ACTION, DONE, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE, REWARD
from numpy.typing import NDArray
from torch import Tensor

FPS = 10
TASK = "pick up the cube"
# Two episodes; the samples of a batch lie in the second one.
EPISODE_BOUNDS = {"dataset_from_index": [0, 40], "dataset_to_index": [40, 100]}
# Where in its range each statistic of a feature lies.
_SHARES = {"min": 0.0, "q01": 0.02, "q10": 0.1, "q50": 0.5, "mean": 0.5, "q90": 0.9, "q99": 0.98, "max": 1.0}
Features = dict[str, PolicyFeature]
Stats = dict[str, dict[str, NDArray[Any]]]


def seed_everything(seed: int) -> None:
    """Put the generators of Python, NumPy and torch into a known state."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def synthetic_features(
    state: int = 6,
    action: int = 6,
    cameras: Sequence[tuple[int, int]] = ((64, 96), (64, 96)),
    environment: int = 0,
) -> dict[str, Features]:
    """Features of an arm with cameras, as `input_features` and `output_features` of a policy's config.

    Args:
        state (`int`): Width of `observation.state`.
        action (`int`): Width of `action`.
        cameras (`Sequence[tuple[int, int]]`): Height and width of each camera.
        environment (`int`): Width of `observation.environment_state`; 0 leaves it out.
    """
    inputs = {OBS_STATE: PolicyFeature(FeatureType.STATE, (state,))}
    if environment:
        inputs[OBS_ENV_STATE] = PolicyFeature(FeatureType.ENV, (environment,))
    for number, (height, width) in enumerate(cameras):
        inputs[f"{OBS_IMAGES}.cam{number}"] = PolicyFeature(FeatureType.VISUAL, (3, height, width))
    return {
        "input_features": inputs,
        "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (action,))},
    }


def synthetic_stats(features: Mapping[str, PolicyFeature]) -> Stats:
    """Statistics in the form of `dataset.meta.stats`: every feature has a range of its own."""
    drawn = np.random.default_rng(7)
    stats: Stats = {}
    for name, feature in features.items():
        if feature.type is FeatureType.VISUAL:
            low, width = np.zeros((3, 1, 1)), np.ones((3, 1, 1))
        else:
            low = drawn.uniform(-40.0, -10.0, feature.shape)
            width = drawn.uniform(30.0, 60.0, feature.shape)
        stats[name] = {key: (low + share * width).astype(np.float32) for key, share in _SHARES.items()}
        stats[name]["std"] = (0.25 * width).astype(np.float32)
        stats[name]["count"] = np.array([100])
    return stats


def synthetic_metadata(features: Mapping[str, PolicyFeature], folder: Path) -> LeRobotDatasetMetadata:
    """LeRobot's own metadata object of a dataset with `features` and two episodes of one task.

    Args:
        features (`Mapping[str, PolicyFeature]`): What the dataset's frames hold.
        folder (`Path`): Where its `info.json` goes; must not exist.
    """
    columns: dict[str, dict[str, Any]] = {}
    for name, feature in features.items():
        if feature.type is FeatureType.VISUAL:
            channels, height, width = feature.shape
            names = ["height", "width", "channels"]
            columns[name] = {"dtype": "video", "shape": (height, width, channels), "names": names}
        else:
            names = [f"joint_{number}.pos" for number in range(feature.shape[0])]
            columns[name] = {"dtype": "float32", "shape": tuple(feature.shape), "names": names}
    metadata = LeRobotDatasetMetadata.create(
        "contract/synthetic", FPS, columns, robot_type="synthetic", root=folder
    )
    metadata.stats = synthetic_stats(features)
    metadata.episodes = {**EPISODE_BOUNDS, "episode_index": [0, 1], "length": [40, 60]}
    metadata.save_episode_tasks([TASK])
    metadata.info.total_episodes = 2
    metadata.info.total_frames = 100
    return metadata


def synthetic_batch(config: PreTrainedConfig, stats: Stats, size: int, task: str = TASK) -> dict[str, Any]:
    """A batch as the DataLoader of `lerobot-train` gives it to the preprocessor; nothing in it is padding.

    Args:
        config (`PreTrainedConfig`): Its features and delta indices say what is in the batch.
        stats (`dict`): Values are drawn between its `min` and `max`.
        size (`int`): B.
        task (`str`): The language instruction of every sample.
    """
    drawn = torch.Generator().manual_seed(11)
    batch: dict[str, Any] = {}
    for name, feature in (config.input_features or {}).items():
        _draw(batch, name, feature, config.observation_delta_indices, stats, size, drawn)
    for name, feature in (config.output_features or {}).items():
        indices = config.action_delta_indices if name == ACTION else None
        _draw(batch, name, feature, indices, stats, size, drawn)
    rewards = config.reward_delta_indices
    if rewards is not None:
        batch[REWARD] = torch.rand((size, len(rewards)), generator=drawn)
        batch[f"{REWARD}_is_pad"] = torch.zeros(size, len(rewards), dtype=torch.bool)
        batch[DONE] = torch.zeros(size, dtype=torch.bool)
    index = EPISODE_BOUNDS["dataset_from_index"][1] + torch.arange(size)
    return batch | {
        "task": [task] * size,
        "task_index": torch.zeros(size, dtype=torch.long),
        "index": index,
        "frame_index": torch.arange(size),
        "episode_index": torch.ones(size, dtype=torch.long),
        "timestamp": torch.arange(size) / FPS,
    }


def _draw(
    batch: dict[str, Any],
    name: str,
    feature: PolicyFeature,
    indices: Sequence[int] | None,
    stats: Stats,
    size: int,
    drawn: torch.Generator,
) -> None:
    """Add one feature, (B, D) or (B, T, D) with its padding mask, to `batch`."""
    times = () if indices is None else (len(indices),)
    values = torch.rand((size, *times, *feature.shape), generator=drawn)
    low, high = (torch.from_numpy(stats[name][key]) for key in ("min", "max"))
    batch[name] = low + values * (high - low)
    if times:
        batch[f"{name}_is_pad"] = torch.zeros(size, *times, dtype=torch.bool)


def synthetic_frame(config: PreTrainedConfig, stats: Stats, step: int) -> dict[str, NDArray[Any]]:
    """What a robot's sensors say at `step`: float32 vectors, and images as uint8 of shape (H, W, 3)."""
    drawn = np.random.default_rng([3, step])
    frame = {}
    for name, feature in (config.input_features or {}).items():
        if feature.type is FeatureType.VISUAL:
            channels, height, width = feature.shape
            frame[name] = drawn.integers(0, 256, (height, width, channels), dtype=np.uint8)
        else:
            low, high = stats[name]["min"], stats[name]["max"]
            frame[name] = drawn.uniform(low, high).astype(np.float32)
    return frame


def synthetic_observation(
    config: PreTrainedConfig, stats: Stats, robots: int, step: int, task: str = TASK
) -> dict[str, Any]:
    """One observation of several robots, (B, ...), as `lerobot-eval` gives it to the preprocessor."""
    batch: dict[str, Any] = {}
    for robot in range(robots):
        for name, value in synthetic_frame(config, stats, 1000 * robot + step).items():
            tensor = torch.from_numpy(value)
            image = value.dtype == np.uint8
            batch.setdefault(name, []).append(tensor.permute(2, 0, 1).float() / 255 if image else tensor)
    return {name: torch.stack(values) for name, values in batch.items()} | {"task": [task] * robots}


def tensors_equal(first: Any, second: Any) -> str:
    """Where two nested results differ, empty when they are equal to the bit."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            return f"{tuple(first.shape)} {first.dtype} and {tuple(second.shape)} {second.dtype}"
        if not torch.equal(first, second):
            return f"values up to {float((first.double() - second.double()).abs().max()):.3g} apart"
        return ""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if set(first) != set(second):
            return f"keys {sorted(map(str, set(first) ^ set(second)))} on one side only"
        for key in first:
            found = tensors_equal(first[key], second[key])
            if found:
                return f"{key}: {found}"
        return ""
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return "" if np.array_equal(first, second) else "arrays differ"
    return "" if first == second else f"{first!r} and {second!r}"
