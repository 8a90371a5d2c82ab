# SPDX-License-Identifier: Apache-2.0
"""Trained policies in this process: loaded, shown held-out frames, and let loose in the simulation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierarchical_parts import data
from hierarchical_parts.settings import Settings, Task
from lerobot_ext.patches import replaced

BATCH = 64


def load(checkpoint: Path, device: str, **fields: Any) -> Any:
    """A checkpoint ready to act, whatever its type, with some fields of its configuration changed."""
    import lerobot_policy_hierarchical_diffusion  # noqa: F401 - registers the policy
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class

    config = PreTrainedConfig.from_pretrained(checkpoint)
    config.device = device
    for name, value in fields.items():
        if not hasattr(config, name):
            raise ValueError(f"`{name}` is no field of a {config.type} policy.")
        setattr(config, name, value)
    with redirect_stdout(sys.stderr):  # LeRobot says what it loads
        policy = get_policy_class(config.type).from_pretrained(checkpoint, config=config)
    return policy.to(device).eval()


def processors(policy: Any, checkpoint: Path) -> tuple[Any, Any]:
    """The saved pre- and postprocessor of a checkpoint."""
    from lerobot.policies.factory import make_pre_post_processors

    made: tuple[Any, Any] = make_pre_post_processors(
        policy.config,
        pretrained_path=str(checkpoint),
        preprocessor_overrides={"device_processor": {"device": str(policy.config.device)}},
    )
    return made


def held_out(policy: Any, checkpoint: Path, task: Task, settings: Settings) -> Iterator[dict[str, Any]]:
    """Preprocessed batches of all held-out frames, in order, with the window that the policy trains on."""
    from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
    from lerobot.datasets.factory import resolve_delta_timestamps
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    root, name = data.folder(task, settings, "held_out"), data.repo_id(task, "held_out")
    meta = LeRobotDatasetMetadata(name, root=root)
    windows = resolve_delta_timestamps(policy.config, meta)
    for camera in policy.config.image_features:  # pictures of the other frames are not used
        windows[camera] = [offset / meta.fps for offset in policy.config.camera_delta_indices]
    dataset = LeRobotDataset(name, root=root, delta_timestamps=windows)
    preprocess, _ = processors(policy, checkpoint)
    for batch in torch.utils.data.DataLoader(dataset, batch_size=BATCH):
        yield preprocess(batch)


def observations(
    policy: Any, checkpoint: Path, task: Task, settings: Settings, count: int
) -> list[dict[str, Any]]:
    """`count` single held-out observations as a robot would send them, preprocessed, evenly spread."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset(data.repo_id(task, "held_out"), root=data.folder(task, settings, "held_out"))
    preprocess, _ = processors(policy, checkpoint)
    rows = torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().tolist()
    kept = {*policy.config.input_features, "task"}
    return [preprocess({name: value for name, value in dataset[row].items() if name in kept}) for row in rows]


def rollouts(
    policy: Any, checkpoint: Path, task: Task, settings: Settings, seed: int
) -> Iterator[tuple[list[bool], list[Tensor]]]:
    """Let a policy act in LeRobot's own evaluation loop, some robots side by side.

    Yields:
        `tuple[list[bool], list[Tensor]]`: Of some episodes whether they succeeded, and the actions (T, A) of
            each up to its end, as the arm got them.
    """
    import lerobot.scripts.lerobot_eval as script
    from lerobot.envs.factory import make_env, make_env_pre_post_processors
    from lerobot.envs.utils import close_envs
    from lerobot.utils.random_utils import set_seed
    from lerobot_env_koch import KochEnvConfig

    set_seed(seed)
    config = KochEnvConfig(task=task.koch, obs=task.observation)
    envs = make_env(config, n_envs=settings.eval_batch, use_async_envs=False)
    robots = next(iter(next(iter(envs.values())).values()))
    pre, post = processors(policy, checkpoint)
    env_pre, env_post = make_env_pre_post_processors(env_cfg=config, policy_cfg=policy.config)
    try:
        for first in range(0, settings.episodes, settings.eval_batch):
            seeds = list(range(seed + first, seed + first + settings.eval_batch))
            # LeRobot's own bar is drawn but on a cluster.
            with torch.no_grad(), replaced(script, inside_slurm=lambda: True):
                found = script.rollout(robots, policy, env_pre, env_post, pre, post, seeds=seeds)
            keep = min(settings.eval_batch, settings.episodes - first)
            ends = found["done"].int().argmax(1)[:keep].tolist()
            yield (
                [bool(found["success"][row, : end + 1].any()) for row, end in enumerate(ends)],
                [found["action"][row, : end + 1] for row, end in enumerate(ends)],
            )
    finally:
        close_envs(envs)


def successes(policy: Any, checkpoint: Path, task: Task, settings: Settings, seed: int) -> list[bool]:
    """Each episode's success."""
    return [found for some, _ in rollouts(policy, checkpoint, task, settings, seed) for found in some]
