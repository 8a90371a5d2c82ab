# SPDX-License-Identifier: Apache-2.0
"""What stock policies remember between two calls, for callers of `predict_action_chunk`.

`select_action` of LeRobot's diffusion, VQ-BeT, TD-MPC and multi-task DiT policies puts observations into
`_queues`; `predict_action_chunk` alone does not, and reads them from there.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lerobot.policies.utils import populate_queues
from lerobot.utils.constants import ACTION, OBS_IMAGES


def observation_queues(policy: Any) -> Mapping[str, Any]:
    """The queues of observations, by name; empty for a policy that keeps none."""
    queues = getattr(policy, "_queues", None)
    return (
        {name: queue for name, queue in queues.items() if name != ACTION} if isinstance(queues, dict) else {}
    )


def with_stacked_cameras(policy: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch as such a policy looks it up: with all cameras as one entry, if it keeps a queue of them."""
    made = dict(batch)
    if OBS_IMAGES in observation_queues(policy) and policy.config.image_features:
        made[OBS_IMAGES] = torch.stack([batch[name] for name in policy.config.image_features], dim=-4)
    return made


def remember(policy: Any, batch: Mapping[str, Any]) -> None:
    """Put an observation where the policy's `select_action` would."""
    if observation_queues(policy):
        populate_queues(policy._queues, with_stacked_cameras(policy, batch), exclude_keys=[ACTION])
