# SPDX-License-Identifier: Apache-2.0
"""Lets a saved policy act once, on made-up observations, the way `lerobot-eval` loads and calls it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors


def act_once(folder: Path, inputs: Mapping[str, Any]) -> torch.Tensor:
    """One action of the checkpoint in `folder`.

    Args:
        folder (`Path`): A checkpoint.
        inputs (`Mapping`): Features of the observation as it comes to the preprocessor.

    Returns:
        The action, (1, width).

    Raises:
        ValueError: The action is not of the shape that the configuration says, or not finite.
    """
    config = PreTrainedConfig.from_pretrained(folder)
    config.device = "cpu"
    config.pretrained_path = folder
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    policy.eval()
    before, after = make_pre_post_processors(
        config,
        pretrained_path=str(folder),
        preprocessor_overrides={
            "device_processor": {"device": "cpu"},
            "rename_observations_processor": {"rename_map": {}},
        },
    )
    with torch.inference_mode():
        action = after(policy.select_action(before(made_up(inputs))))
    wanted = tuple(next(iter(config.output_features.values())).shape)
    if tuple(action.shape[-len(wanted) :]) != wanted or not torch.isfinite(action).all():
        raise ValueError(
            f"its action is {tuple(action.shape)}, {action.flatten()[:6].tolist()}; {wanted} is due"
        )
    return torch.as_tensor(action)


def made_up(inputs: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """A batch of one observation with these features; pictures in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    batch: dict[str, Any] = {
        name: (torch.rand if one.type is FeatureType.VISUAL else torch.randn)(
            1, *one.shape, generator=generator
        )
        for name, one in inputs.items()
    }
    return {**batch, "task": [""]}
