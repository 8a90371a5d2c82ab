# SPDX-License-Identifier: Apache-2.0
"""What a running policy remembers of an episode: the frames that its time window looks back at."""

from __future__ import annotations

from collections import deque

import torch
from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from .network import Observation
from .window import TimeWindow


class EpisodeMemory:
    """The last frames of the running episodes, oldest first.

    An episode's first frame fills the memory, as padding does in training.

    Args:
        window (`TimeWindow`): Says how far back anybody looks.
        image_steps (`int`): Newest frames whose images are kept.
    """

    def __init__(self, window: TimeWindow, image_steps: int) -> None:
        self.window = window
        self._frames: deque[tuple[Tensor, Tensor | None]] = deque(maxlen=window.queue_length)
        self._images: deque[list[Tensor]] = deque(maxlen=image_steps)

    def __len__(self) -> int:
        return len(self._frames)

    def clear(self) -> None:
        """Forget the episodes."""
        self._frames.clear()
        self._images.clear()

    def append(self, state: Tensor, environment: Tensor | None, images: list[Tensor]) -> None:
        """Remember the newest frame: (B, S), (B, E) and one (B, 3, height, width) a camera.

        Raises:
            ValueError: The number of robots changed without a `reset()`.
        """
        if self._frames and len(self._frames[-1][0]) != len(state):
            raise ValueError(
                f"`{OBS_STATE}` has batch size {len(state)} after {len(self._frames[-1][0])}; "
                "call `reset()` in between."
            )
        fresh = not self._frames
        for _ in range(self.window.queue_length if fresh else 1):
            self._frames.append((state, environment))
        for _ in range((self._images.maxlen or 1) if fresh else 1):
            self._images.append(images)

    def append_after(
        self, frames: int, state: Tensor, environment: Tensor | None, images: list[Tensor]
    ) -> None:
        """Remember a frame that comes `frames` frames after the last one, and straight lines to it.

        In real-time chunking the policy sees an observation only when it plans. What lies between is needed
        by the layers that look at speeds; images between two plans are unknown and stay so.

        Args:
            frames (`int`): 1 for the very next frame.
            state (`Tensor`): (B, S).
            environment (`Tensor`, *optional*): (B, E).
            images (`list[Tensor]`): One (B, 3, height, width) a camera.
        """
        frames = min(frames, self.window.queue_length)
        if self._frames and len(self._frames[-1][0]) == len(state):
            old_state, old_environment = self._frames[-1]
            for number in range(1, frames):
                between = torch.lerp(old_state, state, number / frames)
                around = environment
                if environment is not None and old_environment is not None:
                    around = torch.lerp(old_environment, environment, number / frames)
                self._frames.append((between, around))
        self.append(state, environment, images)

    def observation(
        self, tasks: list[str | None], last_action: Tensor | None = None, *, images: bool = True
    ) -> Observation:
        """The past frames of the window, as the network takes them.

        Args:
            tasks (`list[str | None]`): One text a robot.
            last_action (`Tensor`, *optional*): (B, A + 1) `Observation.last_action`.
            images (`bool`, *optional*, defaults to `True`): Whether cameras are wanted.
        """
        remembered = [self._frames[offset - 1] for offset in self.window.past]  # offset 0 is the last entry
        cameras = list(zip(*self._images, strict=True)) if images else []
        environments = [environment for _, environment in remembered if environment is not None]
        return Observation(
            state=torch.stack([state for state, _ in remembered], dim=1),
            environment=torch.stack(environments, dim=1) if environments else None,
            images=[torch.stack(camera, dim=1) for camera in cameras],
            tasks=tasks,
            last_action=last_action,
        )
