# SPDX-License-Identifier: Apache-2.0
"""Depth maps with holes: what a map says where nothing was measured, and what normalising makes of that.

A camera, and a lossless picture, says 0. LeRobot's depth videos cannot: they say the least distance that they
hold, a centimetre (`lerobot.configs.video.DEFAULT_DEPTH_MIN`). So does nothing that was measured, on any
camera there is; hence whatever is not farther counts as not measured, in training and on the arm alike.

Legend: `Z` depth cameras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from lerobot.configs.types import PolicyFeature
from lerobot.configs.video import DEFAULT_DEPTH_MIN
from lerobot.processor import NormalizerProcessorStep, TransitionKey
from lerobot.processor.converters import create_transition
from torch import Tensor

METRES_UP_TO: Final = 20.0
"""Statistics in this range are metres: LeRobot's videos end at 10 m, no camera sees only the next 2 cm."""


@torch.no_grad()
def normalised_nothing(
    features: Mapping[str, PolicyFeature], modes: Mapping[Any, Any], stats: Mapping[str, Mapping[str, Any]]
) -> Tensor:
    """What LeRobot's normaliser makes of the farthest pixel without a measurement, for each depth camera.

    Args:
        features (`Mapping[str, PolicyFeature]`): The depth cameras, in order.
        modes (`Mapping`): The policy's `normalization_mapping`.
        stats (`Mapping`): LeRobot's statistics.

    Returns:
        `Tensor`: (Z,); NaN, below which nothing lies, for a camera without statistics.
    """
    nothing = torch.full((len(features),), torch.nan)
    for number, (key, feature) in enumerate(features.items()):
        if key in stats:
            step = NormalizerProcessorStep(features={key: feature}, norm_map=modes, stats=stats)
            nearest = torch.full((1, 1, 1, 1), _nothing_up_to(stats[key]))
            transition = create_transition(observation={key: nearest})
            nothing[number] = step(transition)[TransitionKey.OBSERVATION][key].item()
    return nothing


def _nothing_up_to(stats: Mapping[str, Any]) -> float:
    """LeRobot's least distance and half a millimetre, for rounding, in the unit of a camera's statistics."""
    known = [torch.as_tensor(stats[name]).abs().max().item() for name in ("max", "mean") if name in stats]
    limit_m: float = DEFAULT_DEPTH_MIN + 0.0005
    return limit_m if known and known[0] <= METRES_UP_TO else 1000 * limit_m


def with_masks(maps: Sequence[Tensor], nothing: Tensor) -> list[Tensor]:
    """Add to each depth map the mask of what was measured.

    Args:
        maps (`Sequence[Tensor]`): Z normalised maps (..., 1, H, W).
        nothing (`Tensor`): (Z,) of `normalised_nothing`.

    Returns:
        `list[Tensor]`: (..., 2, H, W) each: depth, 0 where nothing was measured, and whether something was.
    """
    masked = []
    for depth, empty in zip(maps, nothing, strict=True):
        # Older checkpoints know what 0 becomes, and normalising it in a batch may differ in the last bit.
        limit = empty.to(depth)
        measured = ~(depth <= limit + 1e-4 * limit.abs() + 1e-6)
        masked.append(torch.cat([depth * measured, measured.to(depth.dtype)], dim=-3))
    return masked
