# SPDX-License-Identifier: Apache-2.0
"""Any number of cameras as one vector a sample, in one pass; and the random shift that critics need.

Legend: `B` batch, `C` cameras, `D` width.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cameras import SpatialKeypoints, _resnet18_backbone, _small_backbone

BACKBONES = ("small", "resnet18", "resnet18_frozen_bn")


class PooledCameras(nn.Module):
    """Turn the frames of all cameras into one vector with one shared network.

    Args:
        cameras (`int`): C.
        dim (`int`): D, width of each camera's vector.
        image_size (`tuple[int, int]`): Height and width of the network's input, in pixels; frames of another
            size are resized.
        backbone (`str`): `"small"` (four convolutions), `"resnet18"` (GroupNorm, random weights), or
            `"resnet18_frozen_bn"` (batch norm whose statistics never change, for pretrained weights: the
            running statistics of a batch norm that trains would make values depend on the batch).
        weights (`str`, *optional*): For `"resnet18_frozen_bn"`: a file with a ResNet-18's state dict, or the
            name of torchvision's weights, which are downloaded.
        shift (`int`, *optional*, defaults to `0`): Random shift of each training frame by up to this many
            pixels (DrQ, Kostrikov et al., 2020).

    Raises:
        ValueError: If `backbone` is unknown, or weights are given for one that takes none.
    """

    def __init__(
        self,
        cameras: int,
        dim: int,
        image_size: tuple[int, int],
        backbone: str,
        *,
        weights: str | None = None,
        shift: int = 0,
    ) -> None:
        super().__init__()
        self.cameras = cameras
        self.image_size = image_size
        self.shift = shift
        if weights is not None and backbone != "resnet18_frozen_bn":
            raise ValueError(
                f"weights ({weights}) are for the backbone 'resnet18_frozen_bn', not {backbone!r}."
            )
        if backbone == "small":
            self.backbone = _small_backbone(3, dim)
        elif backbone == "resnet18":
            self.backbone = _resnet18_backbone(3)
        elif backbone == "resnet18_frozen_bn":
            self.backbone = _frozen_resnet18(weights)
        else:
            raise ValueError(f"`backbone` ({backbone!r}) is unknown; choose one of {', '.join(BACKBONES)}.")
        with torch.no_grad():
            channels = self.backbone(torch.zeros(1, 3, *image_size)).shape[1]
        self.project = nn.Conv2d(channels, dim, 1)
        self.keypoints = SpatialKeypoints()
        self.pool = nn.Linear(2 * dim, dim)

    def forward(self, frames: list[Tensor], *, augment: bool = False) -> Tensor:
        """Encode frames.

        Args:
            frames (`list[Tensor]`): One (B, 3, H, W) tensor a camera, normalised; sizes may differ.
            augment (`bool`, *optional*, defaults to `False`): Shift each frame at random.

        Returns:
            `Tensor`: (B, C * D).
        """
        stacked = torch.stack([self._resize(camera) for camera in frames], dim=1).flatten(0, 1)
        if augment and self.shift:
            stacked = random_shift(stacked, self.shift)
        features = self.project(self.backbone(stacked))  # (B C, D, h', w')
        pooled: Tensor = self.pool(self.keypoints(features))
        return pooled.view(len(frames[0]), -1)

    def _resize(self, frames: Tensor) -> Tensor:
        if tuple(frames.shape[-2:]) == tuple(self.image_size):
            return frames
        return F.interpolate(frames, self.image_size, mode="bilinear", antialias=True, align_corners=False)


def random_shift(frames: Tensor, pixels: int) -> Tensor:
    """Shift each of `frames` (N, C, H, W) by its own whole number of pixels, up to `pixels` either way.

    The border's pixels are repeated where nothing comes in.
    """
    count, _, height, width = frames.shape
    offsets = torch.randint(-pixels, pixels + 1, (2, count), device=frames.device)
    rows = (torch.arange(height, device=frames.device) + offsets[0, :, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=frames.device) + offsets[1, :, None]).clamp(0, width - 1)
    sample = torch.arange(count, device=frames.device)[:, None, None]
    return frames.movedim(1, -1)[sample, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _frozen_resnet18(weights: str | None) -> nn.Module:
    """ResNet-18 without its classifier, its batch norms frozen."""
    from torchvision.models import resnet18
    from torchvision.ops import FrozenBatchNorm2d

    file = Path(weights).expanduser() if weights else None
    if file is not None and file.is_file():
        network = resnet18(weights=None, norm_layer=FrozenBatchNorm2d)
        state = torch.load(file, map_location="cpu", weights_only=True)
        wanted = network.state_dict().keys()
        network.load_state_dict({name: value for name, value in state.items() if name in wanted})
    else:
        network = resnet18(weights=weights, norm_layer=FrozenBatchNorm2d)
    return nn.Sequential(*list(network.children())[:-2])
