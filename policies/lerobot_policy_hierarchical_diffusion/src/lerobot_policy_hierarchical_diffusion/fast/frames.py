# SPDX-License-Identifier: Apache-2.0
"""Each camera frame is encoded once, although plans look back at it again.

A frame's features are a function of its pixels and of the weights. The last frames are kept with their
features; a frame with the same pixels, under the same weights, gets the same features without computing them.

Legend: `B` batch, `O` observation steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from lerobot_ext.nn.cameras import CameraLook
from lerobot_ext.nn.remembered import Fingerprint, fingerprint


class Looking(Protocol):
    """A network that looks at each frame for itself: `Vision`."""

    def parameters(self) -> Iterator[Tensor]:
        """Its weights."""

    def buffers(self) -> Iterator[Tensor]:
        """What it keeps beside them."""

    def look(self, images: list[Tensor]) -> list[CameraLook]:
        """One look a kind of camera at (B, O, planes, H, W) a camera."""


class _Seen(NamedTuple):
    pixels: list[Tensor]  # (B, planes, H, W) a camera
    looks: list[CameraLook]  # with one step


class SeenFrames:
    """The last frames of the running episodes and what was made of them.

    Args:
        steps (`int`): Frames that a plan looks at.
    """

    def __init__(self, steps: int) -> None:
        self._frames: deque[_Seen] = deque(maxlen=steps)
        self._weights: Fingerprint = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> SeenFrames:
        """A copied network has weights of its own, and has seen nothing."""
        return SeenFrames(self._frames.maxlen or 1)

    def __reduce__(self) -> tuple[type[SeenFrames], tuple[int]]:
        """What was seen is not sent to other processes."""
        return SeenFrames, (self._frames.maxlen or 1,)

    def clear(self) -> None:
        """Forget."""
        self._frames.clear()

    def looks(self, network: Looking, images: list[Tensor]) -> list[CameraLook]:
        """`network.look(images)`, with only those frames encoded that were not seen lately."""
        weights = fingerprint((*network.parameters(), *network.buffers()))
        if weights != self._weights:
            self.clear()
            self._weights = weights
        steps = images[0].shape[1]
        each = [self._look_at(network, [camera[:, step] for camera in images]) for step in range(steps)]
        return [
            CameraLook(*(torch.cat(parts, dim=1) for parts in zip(*of_steps, strict=True)))
            for of_steps in zip(*each, strict=True)
        ]

    def _look_at(self, network: Looking, frame: list[Tensor]) -> list[CameraLook]:
        for seen in reversed(self._frames):
            if all(_same(old, new) for old, new in zip(seen.pixels, frame, strict=True)):
                return seen.looks
        looks = network.look([camera[:, None] for camera in frame])
        # The caller may fill the same memory with its next frame.
        self._frames.append(_Seen([camera.clone() for camera in frame], looks))
        return looks


def _same(old: Tensor, new: Tensor) -> bool:
    return old.shape == new.shape and old.device == new.device and torch.equal(old, new)
