# SPDX-License-Identifier: Apache-2.0
"""One batch for an actor and for critics that look at different frames of it.

LeRobot loads the frames of `observation_delta_indices` for every observation of the dataset and marks those
beyond an episode in `KEY_is_pad`. What has such a mark has an axis of time; tokens of a text have none.

Legend: `B` batch, `T` frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lerobot.utils.constants import ACTION, OBS_PREFIX
from torch import Tensor

_PAD = "_is_pad"


class Windows:
    """What actor and critics see of a batch.

    Args:
        loaded (`Sequence[int]`): `observation_delta_indices` of the dataset.
        actions (`Sequence[int]`): Its `action_delta_indices`.
        horizon (`int`): Frames between an observation and the one after the chunk.
    """

    def __init__(self, loaded: Sequence[int], actions: Sequence[int], horizon: int) -> None:
        self.loaded, self.actions, self.horizon = list(loaded), list(actions), horizon

    def of_critics(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Observations now and, where they are loaded, after the chunk: (B, 2, ...); H actions."""
        frames = [frame for frame in (0, self.horizon) if frame in self.loaded]
        return self._cut(batch, frames, list(range(self.horizon)), keep_time=True)

    def of_actor(
        self,
        batch: dict[str, Any],
        observations: Sequence[int] | None,
        actions: Sequence[int],
        *,
        later: bool = False,
    ) -> dict[str, Any]:
        """What a policy with these delta indices would have got.

        Args:
            batch (`dict`): Preprocessed, of training.
            observations (`Sequence[int]`, *optional*): Its `observation_delta_indices`; None drops the axis.
            actions (`Sequence[int]`): Its `action_delta_indices`.
            later (`bool`, *optional*, defaults to `False`): The observations after the chunk, with the
                actions as they are.
        """
        offset = self.horizon if later else 0
        frames = [offset + frame for frame in (observations if observations is not None else [0])]
        return self._cut(batch, frames, actions, keep_time=observations is not None)

    def _cut(
        self, batch: dict[str, Any], frames: Sequence[int], actions: Sequence[int], *, keep_time: bool
    ) -> dict[str, Any]:
        seen = [self.loaded.index(frame) for frame in frames]
        done = [self.actions.index(frame) for frame in actions]
        cut = dict(batch)
        for key, value in batch.items():
            if not isinstance(value, Tensor):
                continue
            name = key.removesuffix(_PAD)
            if name == ACTION:
                cut[key] = value if done == list(range(value.shape[1])) else value[:, done]
            elif name.startswith(OBS_PREFIX) and f"{name}{_PAD}" in batch:
                if keep_time:
                    cut[key] = value[:, seen]
                elif key == name:
                    cut[key] = value[:, seen[0]]
                else:
                    del cut[key]  # LeRobot marks no padding where a policy has no axis of time
        return cut
