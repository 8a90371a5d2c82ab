# SPDX-License-Identifier: Apache-2.0
"""All cameras of a robot, colour and depth, as tokens and pooled vectors.

Legend: `B` batch, `O` observation steps, `C` colour cameras, `Z` depth cameras, `P` patches, `D` width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lerobot_ext.nn.cameras import CameraFeatures, CameraLook, MultiCameraEncoder
from lerobot_ext.nn.depth import normalised_nothing, with_masks

from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig
from .fast.frames import SeenFrames


class Vision(nn.Module):
    """One network for the colour cameras, one for the depth cameras.

    A depth camera is one whose pictures have one channel. It measures nothing where it is blinded or too
    close, and says 0 there; the network gets the mask of what was measured as a second channel.

    Args:
        config (`HierarchicalDiffusionConfig`): With at least one camera.
    """

    nothing: Tensor

    def __init__(self, config: HierarchicalDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self._seen = SeenFrames(config.n_obs_steps)
        planes = [feature.shape[0] for feature in config.image_features.values()]
        self.colour = [i for i, channels in enumerate(planes) if channels == 3]
        self.depth = [i for i, channels in enumerate(planes) if channels == 1]
        self.colour_encoder = self._encoder(len(self.colour), 3)
        self.depth_encoder = self._encoder(len(self.depth), 2)
        # What the normaliser makes of "nothing measured"; NaN, which nothing equals, where it is unknown.
        self.register_buffer("nothing", torch.full((len(self.depth),), torch.nan))

    def _encoder(self, cameras: int, planes: int) -> MultiCameraEncoder | None:
        cfg = self.config
        if not cameras:
            return None
        return MultiCameraEncoder(
            cameras,
            cfg.n_obs_steps,
            cfg.manipulation_dim,
            cfg.image_size,
            cfg.vision_backbone,
            planes=planes,
            checkpointing=cfg.gradient_checkpointing,
        )

    @torch.no_grad()
    def set_from(self, stats: dict[str, dict[str, Any]]) -> None:
        """Learn from LeRobot's statistics what a pixel without a measurement looks like after normalising."""
        cameras = list(self.config.image_features.items())
        depth = dict(cameras[i] for i in self.depth)
        found = normalised_nothing(depth, self.config.normalization_mapping, stats).to(self.nothing)
        self.nothing.copy_(torch.where(found.isnan(), self.nothing, found))

    def forward(self, images: list[Tensor]) -> CameraFeatures:
        """Encode frames.

        Args:
            images (`list[Tensor]`): One (B, O, 3 or 1, H, W) tensor a camera, in the config's order.

        Returns:
            `CameraFeatures`: Tokens (B, O * (C + Z) * P, D) and pooled vectors (B, O, (C + Z) * D).
        """
        looks = self._seen.looks(self, images) if self._remembers(images) else self.look(images)
        encoders = [encoder for encoder in (self.colour_encoder, self.depth_encoder) if encoder is not None]
        parts = [encoder.assembled(look) for encoder, look in zip(encoders, looks, strict=True)]
        return CameraFeatures(
            tokens=torch.cat([part.tokens for part in parts], dim=1),
            pooled=torch.cat([part.pooled for part in parts], dim=2),
        )

    def look(self, images: list[Tensor]) -> list[CameraLook]:
        """What each network (colour, depth) makes of each frame for itself; arguments as `forward`'s."""
        looks = []
        if self.colour_encoder is not None:
            looks.append(self.colour_encoder.look([images[i] for i in self.colour]))
        if self.depth_encoder is not None:
            looks.append(self.depth_encoder.look(with_masks([images[i] for i in self.depth], self.nothing)))
        return looks

    @torch.no_grad()
    def look_ahead(self, images: list[Tensor]) -> None:
        """Encode a frame that a later plan will look back at, (B, 3 or 1, H, W) a camera."""
        if self._remembers(images):
            self._seen.looks(self, [camera[:, None] for camera in images])

    def forget(self) -> None:
        """Drop the frames that were encoded last."""
        self._seen.clear()

    def train(self, mode: bool = True) -> Vision:
        """Switch between training and evaluation; weights may have changed in between."""
        self.forget()
        return super().train(mode)

    def _remembers(self, images: list[Tensor]) -> bool:
        """Where frames come twice, no gradient flows, and comparing pixels does not make a device wait."""
        learns = self.training or torch.is_grad_enabled()
        on_cpu = images[0].device.type == "cpu"
        return self.config.n_obs_steps > 1 and on_cpu and not (learns or torch.compiler.is_compiling())
