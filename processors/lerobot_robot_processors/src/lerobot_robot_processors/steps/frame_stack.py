# SPDX-License-Identifier: Apache-2.0
"""The last K observations as one, for policies and robots that keep no history themselves.

LeRobot's multi-frame policies (diffusion) have their own queue and need no step. This one is for what sees
one frame at a time: a robot's or environment's pipeline, and policies trained with
`observation_delta_indices` that expect the same stack while acting.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.processor import ProcessorStepRegistry, TransitionKey
from lerobot.utils.constants import OBS_IMAGE
from torch import Tensor

from lerobot_robot_processors.configured import (
    ConfiguredStep,
    Features,
    Transition,
    is_names,
    is_whole,
    matching,
    observation_of,
    require,
)

LAYOUTS = ("stack", "concatenate")
# A sample of a dataset carries its place in it; what comes from a robot or an environment does not.
_DATASET_MARK = "index"


@ProcessorStepRegistry.register("lerobot_ext_frame_stack")
@dataclass
class FrameStackStep(ConfiguredStep):
    """Replace chosen observations by their last `frames`, oldest first.

    At the start of an episode the first frame stands in for the missing ones; `reset()` starts one. A batch
    of another shape is other rows, and starts anew too.

    | value                 | `stack`          | `concatenate`                                 |
    |-----------------------|------------------|-----------------------------------------------|
    | tensor (B, D)         | (B, K, D)        | (B, K*D)                                      |
    | tensor (B, C, H, W)   | (B, K, C, H, W)  | (B, K*C, H, W)                                |
    | array (H, W, C)       | (K, H, W, C)     | (H, W, K*C)                                   |
    | a robot's number `x`  | refused          | `x` now, and `x.1`, `x.2`, … frames ago       |

    Samples of a dataset are no sequence: they must come stacked (B, K, …), as `observation_delta_indices`
    makes them, and pass or are concatenated.

    Args:
        frames (`int`, *optional*, defaults to `2`): K.
        keys (`list[str]`, *optional*, defaults to `["observation.state"]`): Names or globs.
        layout (`str`, *optional*, defaults to `"stack"`): See the table.

    Raises:
        ValueError: A field is out of range; a dataset's samples come without their history.
        KeyError: A key matches nothing.
    """

    frames: int = 2
    keys: list[str] = field(default_factory=lambda: ["observation.state"])
    layout: str = "stack"
    _history: dict[str, deque[Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        require("frames", self.frames, is_whole(self.frames, 1), "1 or more")
        require("keys", self.keys, is_names(self.keys) and bool(self.keys), "a list of names or globs")
        require("layout", self.layout, self.layout in LAYOUTS, f"one of {', '.join(LAYOUTS)}")

    def __call__(self, transition: Transition) -> Transition:
        """The transition with the history of each chosen key."""
        observation = dict(observation_of(transition, self))
        extras = transition.get(TransitionKey.COMPLEMENTARY_DATA) or {}
        for key in matching(self.keys, observation, "observation"):
            value = observation[key]
            if _DATASET_MARK in extras and isinstance(value, Tensor):
                observation[key] = self._joined_sample(key, value)
            else:
                observation |= self._joined(key, list(self._remembered(key, value)))
        return {**transition, TransitionKey.OBSERVATION: observation}

    def transform_features(self, features: Features) -> Features:
        """The features with the stacked shapes, or a robot's numbers of each frame."""
        observation = dict(features.get(PipelineFeatureType.OBSERVATION, {}))
        for key in matching(self.keys, observation, "observation"):
            observation |= self._feature(key, observation[key])
        return {**features, PipelineFeatureType.OBSERVATION: observation}

    def reset(self) -> None:
        """Begin an episode."""
        self._history.clear()

    def state_dict(self) -> dict[str, Tensor]:
        """The remembered frames (K, …) of each key, named by what they are."""
        state = {}
        for key, kept in self._history.items():
            newest = kept[-1]
            kind = (
                "tensor"
                if isinstance(newest, Tensor)
                else "array"
                if isinstance(newest, np.ndarray)
                else "number"
            )
            frames = [
                torch.as_tensor(frame, dtype=torch.float64 if kind == "number" else None) for frame in kept
            ]
            state[f"{kind}.{key}"] = torch.stack(frames).contiguous()
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over remembered frames."""
        self._history.clear()
        back: dict[str, Callable[[Tensor], Any]] = {
            "tensor": torch.Tensor.clone,
            "array": torch.Tensor.numpy,
            "number": torch.Tensor.item,
        }
        for name, frames in state.items():
            kind, _, key = name.partition(".")
            self._history[key] = deque([back[kind](frame) for frame in frames], maxlen=self.frames)

    def _remembered(self, key: str, value: Any) -> deque[Any]:
        kept = self._history.get(key)
        if kept is None or np.shape(kept[-1]) != np.shape(value) or type(kept[-1]) is not type(value):
            kept = self._history[key] = deque([value] * self.frames, maxlen=self.frames)
        else:
            kept.append(value)
        return kept

    def _joined(self, key: str, kept: list[Any]) -> dict[str, Any]:
        newest = kept[-1]
        if isinstance(newest, Tensor):
            axis = 0 if newest.ndim == _plain_axes(key) else 1
            join = torch.stack if self.layout == "stack" else torch.cat
            return {key: join(kept, dim=axis)}
        if isinstance(newest, np.ndarray):
            return {key: np.stack(kept) if self.layout == "stack" else np.concatenate(kept, axis=-1)}
        self._refuse_stacked_number(key)
        return {key: newest, **{f"{key}.{age}": kept[-1 - age] for age in range(1, self.frames)}}

    def _joined_sample(self, key: str, value: Tensor) -> Tensor:
        """(B, K, …) of a dataset in the layout."""
        axes = _plain_axes(key)
        if value.ndim != axes + 2 or value.shape[1] != self.frames:
            raise ValueError(
                f"`{key}` {tuple(value.shape)} of the dataset's samples has no {self.frames} frames, and "
                "shuffled "
                "samples have no past; let the policy's config give `observation_delta_indices` of "
                f"{self.frames} "
                "frames."
            )
        return value if self.layout == "stack" else value.flatten(1, 2)

    def _feature(self, key: str, feature: Any) -> dict[str, Any]:
        stacked = self.layout == "stack"
        if isinstance(feature, PolicyFeature):
            shape = feature.shape
            new = (self.frames, *shape) if stacked else (self.frames * shape[0], *shape[1:])
            return {key: PolicyFeature(feature.type or FeatureType.STATE, new)}
        if isinstance(feature, tuple):
            return {key: (self.frames, *feature) if stacked else (*feature[:-1], self.frames * feature[-1])}
        self._refuse_stacked_number(key)
        return {key: feature, **{f"{key}.{age}": feature for age in range(1, self.frames)}}

    def _refuse_stacked_number(self, key: str) -> None:
        fits = self.layout == "concatenate"
        require("layout", self.layout, fits, f"concatenate for a robot's number such as `{key}`")


def _plain_axes(key: str) -> int:
    """Axes of one sample of `key`: a picture has three, a vector one."""
    return 3 if key.startswith(OBS_IMAGE) else 1
