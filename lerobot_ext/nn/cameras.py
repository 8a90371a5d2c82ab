# SPDX-License-Identifier: Apache-2.0
"""Encode any number of cameras in one pass of one convolutional network.

Legend: `B` batch, `S` observation steps, `C` cameras, `P` patches a frame, `D` width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class CameraFeatures(NamedTuple):
    """What the encoder makes of the frames.

    Attributes:
        tokens (`Tensor`): (B, S * C * P, D) one token a patch, with position, camera and time added.
        pooled (`Tensor`): (B, S, C * D) one vector a frame from the keypoints of its feature map.
    """

    tokens: Tensor
    pooled: Tensor


class CameraLook(NamedTuple):
    """What the network makes of frames, each for itself.

    Attributes:
        patches (`Tensor`): (B, S, C, P, D).
        pooled (`Tensor`): (B, S, C * D).
    """

    patches: Tensor
    pooled: Tensor


def _group_norm(channels: int) -> nn.GroupNorm:
    groups = max(1, channels // 16)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def _small_backbone(planes: int, channels: int) -> nn.Module:
    """Four strided convolutions (reduction 16) that train from scratch on a CPU."""
    layers: list[nn.Module] = []
    widths = [planes, 32, 64, channels, channels]
    for depth, (source, target) in enumerate(pairwise(widths)):
        kernel = 5 if depth == 0 else 3
        layers += [
            nn.Conv2d(source, target, kernel, stride=2, padding=kernel // 2),
            _group_norm(target),
            nn.GELU(),
        ]
    return nn.Sequential(*layers)


def _resnet18_backbone(planes: int) -> nn.Module:
    """ResNet-18 without its classifier: reduction 32, 512 channels, GroupNorm, random weights."""
    from torchvision.models import resnet18

    network = resnet18(weights=None, norm_layer=_group_norm)
    if planes != 3:
        network.conv1 = nn.Conv2d(planes, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return nn.Sequential(*list(network.children())[:-2])


class SpatialKeypoints(nn.Module):
    """Expected image position of each channel's activation (spatial softmax, Finn et al., 2016).

    Precise positions survive the pooling, which is what grasping needs; a mean over the map would lose them.
    """

    def forward(self, feature_map: Tensor) -> Tensor:
        """Reduce `feature_map` (B, K, H, W) to the positions (B, 2 K) of its K channels, in [-1, 1]."""
        height, width = feature_map.shape[-2:]
        attention = feature_map.flatten(2).softmax(-1).view(feature_map.shape)  # (B, K, H, W)
        rows = torch.linspace(-1, 1, height, device=feature_map.device, dtype=feature_map.dtype)
        columns = torch.linspace(-1, 1, width, device=feature_map.device, dtype=feature_map.dtype)
        y = (attention.sum(3) * rows).sum(-1)
        x = (attention.sum(2) * columns).sum(-1)
        return torch.cat([x, y], dim=-1)


class MultiCameraEncoder(nn.Module):
    """Turn the frames of all cameras into patch tokens and pooled vectors with one shared network.

    Frames of any size are resized to `image_size` first, so cameras may differ in resolution. GroupNorm
    makes the result independent of the batch.

    Args:
        cameras (`int`): Number of cameras.
        steps (`int`): Observation steps a sample.
        dim (`int`): Width of tokens and of each camera's pooled vector.
        image_size (`tuple[int, int]`): Height and width of the network's input, in pixels.
        backbone (`str`): `"small"` or `"resnet18"`.
        planes (`int`, *optional*, defaults to `3`): Channels of a frame: 3 for colour.
        checkpointing (`bool`, *optional*, defaults to `False`): Compute the network's activations anew in the
            backward pass instead of keeping them: less memory, a third more time.

    Raises:
        ValueError: If `backbone` is unknown.
    """

    def __init__(
        self,
        cameras: int,
        steps: int,
        dim: int,
        image_size: tuple[int, int],
        backbone: str,
        *,
        planes: int = 3,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.checkpointing = checkpointing
        if backbone == "small":
            self.backbone = _small_backbone(planes, dim)
        elif backbone == "resnet18":
            self.backbone = _resnet18_backbone(planes)
        else:
            raise ValueError(f"`backbone` ({backbone!r}) is unknown; choose 'small' or 'resnet18'.")
        with torch.no_grad():
            channels, height, width = self.backbone(torch.zeros(1, planes, *image_size)).shape[1:]
        self.project = nn.Conv2d(channels, dim, 1)
        self.keypoints = SpatialKeypoints()
        self.pool = nn.Linear(2 * dim, dim)
        self.position = nn.Parameter(torch.randn(height * width, dim) * 0.02)
        self.camera = nn.Parameter(torch.randn(cameras, 1, dim) * 0.02)
        self.step = nn.Parameter(torch.randn(steps, 1, 1, dim) * 0.02)

    def forward(self, frames: list[Tensor]) -> CameraFeatures:
        """Encode frames.

        Args:
            frames (`list[Tensor]`): One (B, S, planes, H, W) tensor a camera, normalised; sizes may differ.

        Returns:
            `CameraFeatures`: Tokens and pooled vectors.
        """
        return self.assembled(self.look(frames))

    def look(self, frames: list[Tensor]) -> CameraLook:
        """What the network makes of each frame for itself, whatever came before it.

        Args:
            frames (`list[Tensor]`): As `forward`'s; any number of steps.

        Returns:
            `CameraLook`: To be put side by side along its second axis, and assembled.
        """
        batch, steps = frames[0].shape[:2]
        resized = [self._resize(rearrange(camera, "b s c h w -> (b s) c h w")) for camera in frames]
        stacked = torch.stack(resized, dim=1).flatten(0, 1)  # (B S C, planes, h, w)
        if self.checkpointing and self.training and torch.is_grad_enabled():
            mapped = checkpoint(self.backbone, stacked, use_reentrant=False)
        else:
            mapped = self.backbone(stacked)
        features = self.project(mapped)  # (B S C, D, h', w')
        pooled = self.pool(self.keypoints(features))
        return CameraLook(
            patches=rearrange(features, "(b s c) d h w -> b s c (h w) d", b=batch, s=steps),
            pooled=rearrange(pooled, "(b s c) d -> b s (c d)", b=batch, s=steps),
        )

    def assembled(self, look: CameraLook) -> CameraFeatures:
        """Tokens and pooled vectors of `steps` frames that were looked at together or one by one."""
        tokens = look.patches + self.position + self.camera + self.step
        return CameraFeatures(tokens=tokens.flatten(1, 3), pooled=look.pooled)

    def _resize(self, frames: Tensor) -> Tensor:
        if tuple(frames.shape[-2:]) == tuple(self.image_size):
            return frames
        return F.interpolate(frames, self.image_size, mode="bilinear", antialias=True, align_corners=False)
