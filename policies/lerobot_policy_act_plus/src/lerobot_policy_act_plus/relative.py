# SPDX-License-Identifier: Apache-2.0
"""Keep queued relative actions relative to the present: LeRobot adds the newest joint positions to each.

LeRobot's `AbsoluteActionsProcessorStep` adds the joint positions of the newest observation. That is right for
a whole chunk at the moment it is planned, but wrong for an action that waited in the queue of `select_action`
while the arm moved on. So what comes out of the queue is told anew, relative to where the arm is now.

Legend: `B` batch, `A` action width, `S` state width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import NormalizationMode
from lerobot.processor import RelativeActionsProcessorStep
from lerobot.utils.constants import ACTION, OBS_STATE
from numpy.typing import NDArray
from torch import Tensor

from .configuration_act_plus import ActPlusConfig

# The two statistics whose difference, or of which the second, a unit of the normalised feature stands for.
_SPREAD = {
    NormalizationMode.MEAN_STD: (None, "std", 1.0),
    NormalizationMode.MIN_MAX: ("min", "max", 0.5),
    NormalizationMode.QUANTILES: ("q01", "q99", 0.5),
    NormalizationMode.QUANTILE10: ("q10", "q90", 0.5),
}


def relative_scale(config: ActPlusConfig, stats: Mapping[str, Mapping[str, Any]]) -> Tensor:
    """How much a normalised action changes by one unit of the normalised state.

    Args:
        config (`ActPlusConfig`): Features, normalisation and the joints that stay absolute.
        stats (`Mapping`): LeRobot's statistics.

    Returns:
        `Tensor`: (A,); 0 for joints that stay absolute.
    """
    width = config.action_feature.shape[0]
    unit = {
        kind: _unit(config.normalization_mapping.get(kind, NormalizationMode.IDENTITY), stats[key])
        for kind, key in (("STATE", OBS_STATE), ("ACTION", ACTION))
    }
    step = RelativeActionsProcessorStep(
        enabled=True, exclude_joints=config.relative_exclude_joints, action_names=config.action_feature_names
    )
    mask = torch.tensor(step._build_mask(width), dtype=torch.float32)
    shared = min(width, config.robot_state_feature.shape[0])
    scale = torch.zeros(width)
    of_state, of_action = (
        np.broadcast_to(unit[kind], (shared,) if unit[kind].ndim == 0 else unit[kind].shape)
        for kind in ("STATE", "ACTION")
    )
    scale[:shared] = torch.from_numpy(of_state[:shared] / np.maximum(of_action[:shared], 1e-8)).float()
    return scale * mask


def _unit(mode: NormalizationMode, stats: Mapping[str, Any]) -> NDArray[np.float64]:
    """What 1 of a normalised feature is in the dataset's units."""
    if mode is NormalizationMode.IDENTITY:
        return np.ones(())
    low, high, factor = _SPREAD[mode]
    spread = np.asarray(stats[high], dtype=np.float64)
    if low is not None:
        spread = spread - np.asarray(stats[low], dtype=np.float64)
    return spread * factor


def moved(actions: Tensor, before: Tensor, now: Tensor, scale: Tensor) -> Tensor:
    """Actions told relative to `now` that were told relative to `before`.

    Args:
        actions (`Tensor`): (B, A) or (B, T, A), normalised.
        before (`Tensor`): (B, S) normalised state they are relative to.
        now (`Tensor`): (B, S) the one they shall be relative to.
        scale (`Tensor`): (A,) of `relative_scale`.
    """
    shared = min(actions.shape[-1], before.shape[-1])
    shift = (before - now)[:, :shared] * scale[:shared]
    if actions.ndim == 3:
        shift = shift[:, None]
    told = actions.clone()
    told[..., :shared] += shift
    return told
