# SPDX-License-Identifier: Apache-2.0
"""Policies with random weights and batches with random frames: what a step costs depends on neither."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature

JOINTS, POSE, IMAGE = 6, 7, 96
"""Widths of the simulated Koch: joints, and the pose of an object; its cameras' size."""


def policy(cameras: int = 0, **fields: Any) -> Any:
    """Q-chunking for a six-joint arm, with the pose of an object or with cameras instead."""
    from lerobot_policy_q_chunking import QChunkingConfig, QChunkingPolicy

    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (JOINTS,))}
    if not cameras:
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (POSE,))
    for number in range(cameras):
        inputs[f"observation.images.cam{number}"] = PolicyFeature(FeatureType.VISUAL, (3, IMAGE, IMAGE))
    config = QChunkingConfig(
        device="cpu",
        terminal_mode="episode_end",  # there is no dataset that could tell
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))},
        **fields,
    )
    return QChunkingPolicy(config)


def batch(made: Any, size: int) -> dict[str, Any]:
    """A preprocessed training batch of what the policy asks for; every tenth chunk ends its episode."""
    config = made.config
    generator = torch.Generator().manual_seed(0)
    frames, chunk = len(config.observation_delta_indices), config.chunk_size
    ends = torch.arange(size) % 10 == 0
    found: dict[str, Any] = {
        name: torch.rand(size, frames, *feature.shape, generator=generator)
        for name, feature in config.input_features.items()
    }
    if frames > 1:
        later = torch.zeros(size, frames, dtype=torch.bool)
        later[:, 1] = ends
        found["observation.state_is_pad"] = later
    padded = torch.zeros(size, chunk, dtype=torch.bool)
    padded[ends, chunk // 2 :] = True
    found["action"] = torch.rand(size, chunk, JOINTS, generator=generator) * 2 - 1
    found["action_is_pad"] = padded
    found["index"] = torch.arange(size)
    found["episode_index"] = torch.arange(size) // 10
    if config.reward_delta_indices is not None:
        found["next.reward"] = torch.rand(size, chunk, generator=generator)
    return found


def step(made: Any, size: int) -> Callable[[], None]:
    """What the stock trainer does at a step: forward, backward, clip and step, zero, `update()`."""
    seen = batch(made.train(), size)
    optimizer = made.config.get_optimizer_preset().build(made.get_optim_params())

    def work() -> None:
        loss, _ = made.forward(dict(seen))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        made.update()

    return work


def plan(made: Any) -> Callable[[], None]:
    """From a fresh observation of one robot to the first action of a new chunk."""
    made.eval()
    generator = torch.Generator().manual_seed(0)
    seen = {
        name: torch.rand(1, *feature.shape, generator=generator)
        for name, feature in made.config.input_features.items()
    }

    def work() -> None:
        made.reset()
        with torch.inference_mode():
            made.select_action(dict(seen))

    return work
