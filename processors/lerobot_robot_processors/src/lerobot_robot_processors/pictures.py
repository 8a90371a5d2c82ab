# SPDX-License-Identifier: Apache-2.0
"""Pictures of both sides of LeRobot, as one kind of tensor.

A robot gives arrays (H, W, C) under the camera's name, `top`; a policy gets tensors (C, H, W), (B, C, H, W)
or (B, T, C, H, W) under `observation.images.top`, uint8 or floats in [0, 1]. A depth map has one channel and
is called `top_depth` beside the colours of `top`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.utils.constants import OBS_IMAGE, OBS_IMAGES
from torch import Tensor

from lerobot_robot_processors.configured import Features, matching

DEPTH_SUFFIX = "_depth"


def camera_of(key: str) -> str:
    """The camera's name in a key of either side: `top` of `observation.images.top` and of `top`."""
    return key.removeprefix(f"{OBS_IMAGES}.")


def is_picture(key: str, value: Any) -> bool:
    """Whether an observation's value is a picture: by its axes for an array, by its key too for a tensor."""
    if isinstance(value, Tensor):
        return value.ndim >= 3 and key.startswith(OBS_IMAGE)
    return isinstance(value, np.ndarray) and value.ndim >= 3


def picture_keys(observation: Mapping[str, Any], cameras: Sequence[str] | None) -> list[str]:
    """The keys of the pictures that `cameras` names.

    Args:
        observation (`Mapping[str, Any]`): Of either side.
        cameras (`Sequence[str]`, *optional*): Names, keys or globs of them; None names all.

    Raises:
        KeyError: One of `cameras` names no picture of the observation.
    """
    return _named(cameras, [key for key, value in observation.items() if is_picture(key, value)])


def picture_features(features: Features, cameras: Sequence[str] | None) -> dict[str, tuple[int, int, int]]:
    """The pictures among the observation's features that `cameras` names, each as (C, H, W).

    Raises:
        KeyError: One of `cameras` names no picture.
    """
    observation = features.get(PipelineFeatureType.OBSERVATION, {})
    shapes = {key: planes for key, feature in observation.items() if (planes := _planes_of(key, feature))}
    return {key: shapes[key] for key in _named(cameras, shapes)}


def with_picture_shapes(features: Features, shapes: Mapping[str, tuple[int, int, int]]) -> Features:
    """`features` in which each key of `shapes` is a picture (C, H, W), written as its side writes it.

    A new key is written like the other pictures are.
    """
    observation = dict(features.get(PipelineFeatureType.OBSERVATION, {}))
    policy_side = any(isinstance(feature, PolicyFeature) for feature in observation.values())
    for key, (channels, height, width) in shapes.items():
        before = observation.get(key)
        if isinstance(before, PolicyFeature):
            leading = tuple(before.shape[:-3])
            observation[key] = PolicyFeature(FeatureType.VISUAL, (*leading, channels, height, width))
        elif before is None and policy_side:
            observation[key] = PolicyFeature(FeatureType.VISUAL, (channels, height, width))
        else:
            observation[key] = (height, width, channels)
    return {**features, PipelineFeatureType.OBSERVATION: observation}


def to_planes(value: Any) -> Tensor:
    """A picture of either side as a tensor (..., C, H, W); shares memory where it can."""
    if isinstance(value, Tensor):
        return value
    # torch takes neither negative strides nor, without a warning, memory that is not ours to write.
    sound = value.flags.writeable and all(stride > 0 for stride in value.strides)
    return torch.from_numpy(value if sound else value.copy()).movedim(-1, -3)


def like(planes: Tensor, example: Any) -> Any:
    """`planes` (..., C, H, W) as a picture of the side that `example` comes from."""
    if isinstance(example, Tensor):
        return planes
    return np.ascontiguousarray(planes.movedim(-3, -1).numpy())


def describe(key: str, value: Any) -> str:
    """A picture for an error: its key, shape and type."""
    return f"`{key}` {tuple(value.shape)} {value.dtype}"


def _named(cameras: Sequence[str] | None, keys: Iterable[str]) -> list[str]:
    if cameras is None:
        return list(keys)
    try:
        return matching(cameras, keys, "picture", lambda key: (key, camera_of(key)))
    except KeyError as error:
        wanted = ", ".join(
            f"`{name if name.startswith(OBS_IMAGE) else f'{OBS_IMAGES}.{name}'}`" for name in cameras
        )
        raise KeyError(f"{error.args[0]} A policy's pictures would be called {wanted}.") from None


def _planes_of(key: str, feature: Any) -> tuple[int, int, int] | None:
    """(C, H, W) of a feature that is a picture."""
    if isinstance(feature, PolicyFeature):
        visual = feature.type is FeatureType.VISUAL or key.startswith(OBS_IMAGE)
        if not visual or len(feature.shape) < 3:
            return None
        channels, height, width = feature.shape[-3:]
        return channels, height, width
    if isinstance(feature, tuple) and len(feature) == 3:
        height, width, channels = feature
        return channels, height, width
    return None
