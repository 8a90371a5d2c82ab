# SPDX-License-Identifier: Apache-2.0
"""All cameras and vectors of one instant as one vector: what critics see of a state.

Legend: `B` batch, `T` frames of the batch, `D` width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.utils.constants import OBS_ENV_STATE, OBS_STATE
from torch import Tensor, nn

from lerobot_ext.nn.pooled_cameras import PooledCameras


class MLP(nn.Sequential):
    """Linear maps with GELU between them.

    Args:
        widths (`Sequence[int]`): Input, hidden and output widths.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        super().__init__(*layers[:-1])


class PooledObservations(nn.Module):
    """All cameras and vectors of one instant as one vector.

    Layer norms and no dropout: features, and with them values, must not depend on the rest of the batch or on
    chance.

    Args:
        vectors (`Mapping[str, int]`): Width of each vector, by its key in the batch.
        images (`Sequence[str]`): Keys of the cameras.
        cameras (`PooledCameras`, *optional*): Their network; needed where there are cameras.
        image_dim (`int`): Width that it makes of each camera.
        dim (`int`): D.
    """

    def __init__(
        self,
        vectors: Mapping[str, int],
        images: Sequence[str],
        cameras: PooledCameras | None,
        image_dim: int,
        dim: int,
    ) -> None:
        super().__init__()
        self.vectors, self.images, self.cameras = list(vectors), list(images), cameras
        width = sum(vectors.values()) + len(self.images) * image_dim
        self.fuse = nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.Linear(dim, dim), nn.LayerNorm(dim))

    def forward(self, batch: dict[str, Any], time: int = 0, *, augment: bool = False) -> Tensor:
        """Encode the observations at `time` of the batch's; returns (B, D).

        Args:
            batch (`dict`): Vectors (B, T, S) or (B, S); images (B, T, 3, H, W) or (B, 3, H, W).
            time (`int`, *optional*, defaults to `0`): Which of the T.
            augment (`bool`, *optional*, defaults to `False`): Shift images at random.
        """
        parts = [at_time(batch[key], time, 2) for key in self.vectors]
        if self.cameras is not None:
            frames = [at_time(batch[key], time, 4) for key in self.images]
            parts.append(self.cameras(frames, augment=augment))
        features: Tensor = self.fuse(torch.cat(parts, dim=-1))
        return features


def vector_widths(config: PreTrainedConfig) -> dict[str, int]:
    """Widths of the joints and of the environment's state, of those that a policy has."""
    vectors = {OBS_STATE: config.robot_state_feature, OBS_ENV_STATE: config.env_state_feature}
    return {key: feature.shape[0] for key, feature in vectors.items() if feature is not None}


def at_time(values: Tensor, time: int, ndim: int) -> Tensor:
    """`values` at `time` if they have an axis of time, else as they are."""
    return values if values.ndim == ndim else values[:, time]
