# SPDX-License-Identifier: Apache-2.0
"""Depth maps with holes: a map says 0 where nothing was measured, which normalising changes.

Legend: `Z` depth cameras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lerobot.configs.types import PolicyFeature
from lerobot.processor import NormalizerProcessorStep, TransitionKey
from lerobot.processor.converters import create_transition
from torch import Tensor


@torch.no_grad()
def normalised_nothing(
    features: Mapping[str, PolicyFeature], modes: Mapping[Any, Any], stats: Mapping[str, Mapping[str, Any]]
) -> Tensor:
    """What LeRobot's normaliser makes of a pixel without a measurement, for each depth camera.

    Args:
        features (`Mapping[str, PolicyFeature]`): The depth cameras, in order.
        modes (`Mapping`): The policy's `normalization_mapping`.
        stats (`Mapping`): LeRobot's statistics.

    Returns:
        `Tensor`: (Z,); NaN, which nothing equals, for a camera without statistics.
    """
    nothing = torch.full((len(features),), torch.nan)
    for number, (key, feature) in enumerate(features.items()):
        if key in stats:
            step = NormalizerProcessorStep(features={key: feature}, norm_map=modes, stats=stats)
            transition = create_transition(observation={key: torch.zeros(1, 1, 1, 1)})
            nothing[number] = step(transition)[TransitionKey.OBSERVATION][key].item()
    return nothing


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
        # Normalising 0 in a batch and alone may differ in the last bit.
        measured = ~torch.isclose(depth, empty.to(depth), rtol=1e-4, atol=1e-6)
        masked.append(torch.cat([depth * measured, measured.to(depth.dtype)], dim=-3))
    return masked
