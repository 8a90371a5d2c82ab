# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that answer what a test wants, saved as stock saves them: weights and both processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import get_policy_class, make_policy_config, make_pre_post_processors

JOINTS = ("pan.pos", "lift.pos", "elbow.pos", "flex.pos", "roll.pos", "gripper.pos")
TARGET = [0.0, 3.0, 6.0, 9.0, 12.0, 15.0]


def features(state: int = 6, camera: tuple[int, int] | None = (24, 32), env: int = 0) -> dict[str, Any]:
    """Features of a policy for six joints."""
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (state,))}
    if camera is not None:
        inputs["observation.images.top"] = PolicyFeature(FeatureType.VISUAL, (3, *camera))
    if env:
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (env,))
    return {
        "input_features": inputs,
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (6,))},
    }


def statistics(shapes: dict[str, Any]) -> dict[str, dict[str, torch.Tensor]]:
    """Statistics that leave numbers as they are."""
    stats = {}
    for name, feature in {**shapes["input_features"], **shapes["output_features"]}.items():
        shape = (3, 1, 1) if feature.type == FeatureType.VISUAL else feature.shape
        stats[name] = {
            "mean": torch.zeros(shape),
            "std": torch.ones(shape),
            "min": -torch.ones(shape),
            "max": torch.ones(shape),
            "count": torch.tensor([100]),
        }
    return stats


def save(folder: Path, policy_type: str, shapes: dict[str, Any], edit: Any = None, **config: Any) -> Path:
    """A policy of random weights, after `edit(policy)`, and its processors."""
    torch.manual_seed(0)
    made = make_policy_config(policy_type, device="cpu", push_to_hub=False, **shapes, **config)
    stats = statistics(shapes)
    policy = get_policy_class(policy_type)(made, dataset_stats=stats)
    if edit is not None:
        with torch.no_grad():
            edit(policy)
    pre, post = make_pre_post_processors(made, dataset_stats=stats)
    policy.save_pretrained(folder)
    pre.save_pretrained(folder)
    post.save_pretrained(folder)
    return folder


def save_act(
    folder: Path,
    target: list[float] | None = None,
    camera: tuple[int, int] = (24, 32),
    chunk_size: int = 20,
) -> Path:
    """A stock `act` that wants the joints at `target`, whatever it sees."""

    def always_target(policy: Any) -> None:
        policy.model.action_head.weight.zero_()
        policy.model.action_head.bias.copy_(torch.tensor(TARGET if target is None else target))

    small = {
        "chunk_size": chunk_size,
        "n_action_steps": chunk_size,
        "dim_model": 16,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "latent_dim": 4,
        "pretrained_backbone_weights": None,
    }
    return save(folder, "act", features(camera=camera), always_target, **small)
