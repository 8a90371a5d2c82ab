# SPDX-License-Identifier: Apache-2.0
"""Scripted demonstrations in memory, as batches and statistics in LeRobot's form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, IMAGENET_STATS, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE
from lerobot_env_koch.constants import ENVIRONMENT_STATE_NAMES, JOINT_NAMES
from lerobot_env_koch.demos.recorder import DemoOptions, roll_out
from lerobot_env_koch.environment import KochEnv

ADVANTAGE = "observation.advantage"
COLOUR = f"{OBS_IMAGES}.top"
DEPTH = f"{OBS_IMAGES}.top_depth"
"""The one camera of settings with pictures."""


@dataclass
class Demonstrations:
    """Frames of all episodes, one after the other.

    Attributes:
        columns (`dict[str, Tensor]`): (N, D) each; pictures (N, C, H, W), colours in bytes, depth in mm.
        texts (`list[str]`): The instruction of each frame.
        ends (`Tensor`): (N,) one past the last frame of each frame's episode.
        tasks (`Any`): The dataset's tasks, as its metadata tells them.
    """

    columns: dict[str, torch.Tensor]
    texts: list[str]
    ends: torch.Tensor
    tasks: Any

    def batch(self, size: int, chunk: int, generator: torch.Generator) -> dict[str, Any]:
        """A batch as LeRobot's DataLoader makes it."""
        first = torch.randint(len(self.ends), (size,), generator=generator)
        frames = first[:, None] + torch.arange(chunk)
        last = self.ends[first][:, None]
        batch: dict[str, Any] = {
            name: _as_read(values[first]) for name, values in self.columns.items() if name != ACTION
        }
        batch[ACTION] = self.columns[ACTION][torch.minimum(frames, last - 1)]
        batch[f"{ACTION}_is_pad"] = frames >= last
        batch["task"] = [self.texts[number] for number in first.tolist()]
        return batch

    def statistics(self, chunk: int, *, relative: bool) -> dict[str, dict[str, torch.Tensor]]:
        """Statistics in LeRobot's form; of relative actions where the policy learns those."""
        stats = {}
        for name, values in self.columns.items():
            if values.ndim == 4:
                stats[name] = _of_pictures(name, values)
                continue
            if name == ACTION and relative:
                frames = torch.arange(len(values))[:, None] + torch.arange(chunk)
                ahead = values[torch.minimum(frames, self.ends[:, None] - 1)]
                values = (ahead - self.columns[OBS_STATE][:, None]).flatten(0, 1)
            stats[name] = {
                "mean": values.mean(0),
                "std": values.std(0).clamp_min(1e-3),
                "min": values.min(0).values,
                "max": values.max(0).values,
            }
        return stats


def _as_read(values: torch.Tensor) -> torch.Tensor:
    """Frames of a column as LeRobot's datasets give them: floats, colours in [0, 1]."""
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()


def _of_pictures(name: str, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Statistics (C, 1, 1) as `lerobot-train` takes them: ImageNet's for colours, the dataset's for depth."""
    if name == COLOUR:
        return {key: torch.tensor(each) for key, each in IMAGENET_STATS.items()}
    depth = values.float()
    shaped = {"mean": depth.mean(), "std": depth.std(), "min": depth.min(), "max": depth.max()}
    return {key: value.reshape(1, 1, 1) for key, value in shaped.items()}


def features(picture: int = 0, *, depth: bool = False) -> dict[str, dict[str, PolicyFeature]]:
    """The policy's features: joints, and the pose of cube and goal, or a camera.

    Args:
        picture (`int`, *optional*, defaults to `0`): Rows and columns of the camera; 0 without.
        depth (`bool`, *optional*, defaults to `False`): Its depth map too.
    """
    joints = (len(JOINT_NAMES),)
    seen = {OBS_ENV_STATE: PolicyFeature(FeatureType.ENV, (len(ENVIRONMENT_STATE_NAMES),))}
    if picture:
        seen = {COLOUR: PolicyFeature(FeatureType.VISUAL, (3, picture, picture))}
    if depth:
        seen[DEPTH] = PolicyFeature(FeatureType.VISUAL, (1, picture, picture))
    return {
        "input_features": {OBS_STATE: PolicyFeature(FeatureType.STATE, joints), **seen},
        "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, joints)},
    }


def make_env(task: str, belt_m_s: float = 0.0, picture: int = 0) -> KochEnv:
    """The environment of demonstrations and episodes; with `picture`, cameras and depth maps of that size."""
    if not picture:
        return KochEnv(task, belt_m_s=belt_m_s)
    return KochEnv(
        task,
        obs="state_pixels",
        image_size=(picture, picture),
        renderer="painter",  # everywhere the same
        belt_m_s=belt_m_s,
        depth=True,
    )


class _Metadata:
    """What act_plus reads of a dataset's metadata."""

    class tasks:  # noqa: N801 - stands for a data frame
        index: list[str]


def record(
    task: str,
    episodes: int,
    seed: int,
    belt_m_s: float = 0.0,
    skill: str = "expert",
    picture: int = 0,
) -> Demonstrations:
    """Play scripted demonstrations of a task, of an expert the successful ones; nothing is written.

    Args:
        task (`str`): Of the Koch environment.
        episodes (`int`): How many.
        seed (`int`): Base of all randomness.
        belt_m_s (`float`, *optional*, defaults to `0.0`): Speed of the table's top.
        skill (`str`, *optional*, defaults to `"expert"`): Of the demonstrators, as in `lerobot-ext demos`.
        picture (`int`, *optional*, defaults to `0`): Rows and columns of the camera; 0 without.
    """
    options = DemoOptions("local/act_plus", Path("unused"), task, episodes, skill, seed, belt_m_s=belt_m_s)
    env = make_env(task, belt_m_s, picture)
    kept: list[list[dict[str, Any]]] = []
    attempt = 0
    while len(kept) < episodes:
        frames, episode = roll_out(env, options, attempt)
        attempt += 1
        if episode.success or options.keeps_failures:
            kept.append(frames)
    env.close()
    flat = [frame for frames in kept for frame in frames]
    columns = {
        name: torch.from_numpy(np.stack([frame[name] for frame in flat]).astype(np.float32))
        for name in (OBS_STATE, OBS_ENV_STATE, ACTION)
    }
    if picture:
        columns[COLOUR] = _stacked([frame[COLOUR] for frame in flat])
        columns[DEPTH] = _stacked([frame[DEPTH].astype(np.int16) for frame in flat])  # of a few metres
    ends = torch.cat(
        [torch.full((len(f),), end) for f, end in zip(kept, np.cumsum([*map(len, kept)]), strict=True)]
    )
    columns[ADVANTAGE] = _speed(kept)
    metadata = _Metadata()
    metadata.tasks.index = sorted({frame["task"] for frame in flat})
    return Demonstrations(columns, [frame["task"] for frame in flat], ends, metadata)


def _stacked(pictures: list[np.ndarray]) -> torch.Tensor:
    """(N, C, H, W) of pictures (H, W, C)."""
    return torch.from_numpy(np.stack(pictures)).movedim(-1, 1).contiguous()


def _speed(kept: list[list[dict[str, Any]]]) -> torch.Tensor:
    """(N, 1) how much sooner than usual each frame's episode was done: its advantage.

    One that failed took as long as is allowed, and so has none.
    """
    lengths = torch.tensor([float(len(frames)) for frames in kept])
    better = lengths.median() - lengths
    return torch.cat([value.expand(len(frames)) for value, frames in zip(better, kept, strict=True)])[:, None]
