# SPDX-License-Identifier: Apache-2.0
"""Depth maps as numbers from 0 to 1 for a network, and back to metres or millimetres.

Sensors give millimetres as whole numbers with 0 for "not measured"; LeRobot's datasets give millimetres as
floats unless told otherwise. No normaliser of LeRobot knows that 0 is not near.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lerobot.processor import ProcessorStepRegistry, TransitionKey
from numpy.typing import NDArray
from torch import Tensor

from lerobot_robot_processors.configured import (
    ConfiguredStep,
    Features,
    Transition,
    is_names,
    is_number,
    observation_of,
    require,
)
from lerobot_robot_processors.pictures import (
    like,
    picture_features,
    picture_keys,
    to_planes,
    with_picture_shapes,
)

UNITS = {"mm": 1000.0, "m": 1.0}
SCALES = ("linear", "log", "inverse")
MASKS = ("none", "channel", "key")
MASK_SUFFIX = "_valid"


@dataclass
class _DepthFields(ConfiguredStep):
    """The fields of both directions."""

    near_m: float = 0.1
    far_m: float = 4.0
    unit: str = "mm"
    scale: str = "linear"
    mask: str = "none"
    outside: str = "clip"
    invalid_value: float = 0.0
    cameras: list[str] | None = None

    def __post_init__(self) -> None:
        ends = is_number(self.near_m) and is_number(self.far_m) and 0 <= self.near_m < self.far_m
        require("near_m, far_m", (self.near_m, self.far_m), ends, "metres, 0 <= near < far")
        require("unit", self.unit, self.unit in UNITS, "mm or m")
        require("scale", self.scale, self.scale in SCALES, f"one of {', '.join(SCALES)}")
        positive = self.scale == "linear" or self.near_m > 0
        require("near_m", self.near_m, positive, f"above 0 for `scale` {self.scale!r}")
        require("mask", self.mask, self.mask in MASKS, f"one of {', '.join(MASKS)}")
        require("outside", self.outside, self.outside in ("clip", "invalid"), "clip or invalid")
        require("invalid_value", self.invalid_value, is_number(self.invalid_value), "a number")
        named = self.cameras is None or is_names(self.cameras)
        require("cameras", self.cameras, named, "a list of names, or none")

    def _chosen(self, channels: dict[str, int], expected: int) -> list[str]:
        """The depth maps among pictures: those of `cameras`, or all of `expected` channels."""
        if self.cameras is None:
            names = [key for key, count in channels.items() if count == expected]
            return [key for key in names if not key.endswith(MASK_SUFFIX)]
        for key, count in channels.items():
            require(
                "cameras",
                self.cameras,
                count == expected,
                f"depth maps of {expected} channel(s); `{key}` has {count}",
            )
        return list(channels)

    def _to_share(self, metres: Tensor) -> Tensor:
        near, far = self.near_m, self.far_m
        if self.scale == "linear":
            return (metres - near) / (far - near)
        if self.scale == "log":
            return torch.log(metres / near) / math.log(far / near)
        # Disparity: near is 1 in most papers, here 0 as in the other scales.
        return (1 / near - 1 / metres) / (1 / near - 1 / far)

    def _to_metres(self, share: Tensor) -> Tensor:
        near, far = self.near_m, self.far_m
        if self.scale == "linear":
            return near + share * (far - near)
        if self.scale == "log":
            return near * torch.exp(share * math.log(far / near))
        return 1 / (1 / near - share * (1 / near - 1 / far))


@ProcessorStepRegistry.register("lerobot_ext_depth")
@dataclass
class DepthStep(_DepthFields):
    """Clip depth to a range and map it to [0, 1], near to far, with a mask of what was measured.

    Not measured is what is 0 or less, infinite or NaN.

    Args:
        near_m (`float`, *optional*, defaults to `0.1`): Metres that become 0.
        far_m (`float`, *optional*, defaults to `4.0`): Metres that become 1.
        unit (`str`, *optional*, defaults to `"mm"`): Of the depth that comes in, `mm` or `m`.
        scale (`str`, *optional*, defaults to `"linear"`): `linear`; `log`, the same share of the numbers for
            each doubling; `inverse`, even in disparity as a stereo sensor's errors are.
        mask (`str`, *optional*, defaults to `"none"`): Where the mask (1 valid, 0 not) goes: `channel`
            appends it to the picture, `key` makes the picture `<key>_valid`.
        outside (`str`, *optional*, defaults to `"clip"`): Depth outside the range is clipped to its ends, or
            `invalid`.
        invalid_value (`float`, *optional*, defaults to `0.0`): The number of an invalid pixel.
        cameras (`list[str]`, *optional*): Names, keys or globs; None takes all pictures of one channel.

    Raises:
        ValueError: A field is out of range; a named camera has more than one channel.
        KeyError: One of `cameras` is not in the observation.
    """

    _table: tuple[NDArray[np.float32], NDArray[np.float32]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def __call__(self, transition: Transition) -> Transition:
        """The transition with its depth maps as floats in [0, 1]; float64 stays, all else becomes float32."""
        observation = dict(observation_of(transition, self))
        for key in self._keys(observation):
            share, valid = self._shares(observation[key])
            if self.mask == "channel":
                share = torch.cat([share, valid], dim=-3)
            elif self.mask == "key":
                observation[key + MASK_SUFFIX] = like(valid, observation[key])
            observation[key] = like(share, observation[key])
        return {**transition, TransitionKey.OBSERVATION: observation}

    def transform_features(self, features: Features) -> Features:
        """The features with the mask's channel or key."""
        pictures = picture_features(features, self.cameras)
        shapes = {}
        for key in self._chosen({key: shape[0] for key, shape in pictures.items()}, 1):
            _, height, width = pictures[key]
            shapes[key] = (2 if self.mask == "channel" else 1, height, width)
            if self.mask == "key":
                shapes[key + MASK_SUFFIX] = (1, height, width)
        return with_picture_shapes(features, shapes)

    def inverted(self) -> "DepthInverseStep":
        """The step that undoes this one."""
        return DepthInverseStep(**self.get_config())

    def _keys(self, observation: dict[str, Any]) -> list[str]:
        return self._chosen(channels_of(observation, picture_keys(observation, self.cameras)), 1)

    def _shares(self, picture: Any) -> tuple[Tensor, Tensor]:
        """Shares and mask (..., 1, H, W) of a picture of either side."""
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint16:
            return self._normalised(to_planes(picture))
        # A sensor's picture has 65,536 values and more pixels: looking them up takes a tenth of the time.
        if self._table is None:
            values = torch.arange(2**16, dtype=torch.float32)
            shares, valids = self._normalised(values)
            self._table = (shares.numpy(), valids.numpy())
        share, valid = self._table
        looked_up = torch.from_numpy(np.take(share, picture)).movedim(-1, -3)
        if self.mask == "none":
            return looked_up, looked_up  # nobody asks for the mask
        return looked_up, torch.from_numpy(np.take(valid, picture)).movedim(-1, -3)

    def _normalised(self, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Shares of the range and the mask, both (..., 1, H, W), of depth in `unit`."""
        numbers = depth if depth.dtype == torch.float64 else depth.float()
        metres = numbers / UNITS[self.unit]
        valid = torch.isfinite(metres) & (metres > 0)
        if self.outside == "invalid":
            valid &= (metres >= self.near_m) & (metres <= self.far_m)
        # Whatever stands at an invalid pixel, NaN included, must not reach the logarithm.
        inside = torch.where(valid, metres, torch.full_like(metres, self.near_m))
        share = self._to_share(inside.clamp(self.near_m, self.far_m)).clamp(0.0, 1.0)
        filled = torch.where(valid, share, torch.full_like(share, self.invalid_value))
        return filled, valid.to(share.dtype)


@ProcessorStepRegistry.register("lerobot_ext_depth_inverse")
@dataclass
class DepthInverseStep(_DepthFields):
    """Undo `lerobot_ext_depth` of the same fields: depth in `unit`, 0 where the mask says invalid.

    Without a mask an invalid pixel is recognised by `invalid_value` only where that lies outside [0, 1]; else
    it becomes the depth that has its number.

    Args:
        near_m (`float`, *optional*, defaults to `0.1`): As in `lerobot_ext_depth`.
        far_m (`float`, *optional*, defaults to `4.0`): As there.
        unit (`str`, *optional*, defaults to `"mm"`): Of the depth that goes out.
        scale (`str`, *optional*, defaults to `"linear"`): As there.
        mask (`str`, *optional*, defaults to `"none"`): As there; the mask is taken away.
        outside (`str`, *optional*, defaults to `"clip"`): As there; changes nothing here.
        invalid_value (`float`, *optional*, defaults to `0.0`): As there.
        cameras (`list[str]`, *optional*): As there; None takes all pictures of as many channels.

    Raises:
        ValueError: A field is out of range; a named camera has another number of channels.
        KeyError: One of `cameras`, or the mask of one, is not in the observation.
    """

    def __call__(self, transition: Transition) -> Transition:
        """The transition with its depth maps in `unit`."""
        observation = dict(observation_of(transition, self))
        for key in self._keys(observation):
            planes = to_planes(observation[key])
            share, valid = planes[..., :1, :, :], self._valid(key, planes, observation)
            numbers = share if share.dtype == torch.float64 else share.float()
            depth = self._to_metres(numbers.clamp(0.0, 1.0)) * UNITS[self.unit]
            observation[key] = like(torch.where(valid, depth, torch.zeros_like(depth)), observation[key])
        return {**transition, TransitionKey.OBSERVATION: observation}

    def transform_features(self, features: Features) -> Features:
        """The features without the mask's channel or key."""
        pictures = picture_features(features, self.cameras)
        keys = self._chosen({key: shape[0] for key, shape in self._depth(pictures).items()}, self._channels)
        changed = with_picture_shapes(features, {key: (1, *pictures[key][1:]) for key in keys})
        masks = {key + MASK_SUFFIX for key in keys} if self.mask == "key" else set()
        return {
            kind: {key: feature for key, feature in named.items() if key not in masks}
            for kind, named in changed.items()
        }

    @property
    def _channels(self) -> int:
        return 2 if self.mask == "channel" else 1

    def _keys(self, observation: dict[str, Any]) -> list[str]:
        channels = channels_of(observation, picture_keys(observation, self.cameras))
        return self._chosen(self._depth(channels), self._channels)

    def _depth(self, pictures: dict[str, Any]) -> dict[str, Any]:
        """Without the masks, which globs match as well."""
        return {key: value for key, value in pictures.items() if not key.endswith(MASK_SUFFIX)}

    def _valid(self, key: str, planes: Tensor, observation: dict[str, Any]) -> Tensor:
        if self.mask == "channel":
            return planes[..., 1:, :, :] > 0.5
        if self.mask == "key":
            if key + MASK_SUFFIX not in observation:
                raise KeyError(f"`{key}` comes without its mask `{key}{MASK_SUFFIX}`.")
            return to_planes(observation.pop(key + MASK_SUFFIX)) > 0.5
        if 0 <= self.invalid_value <= 1:
            return torch.ones_like(planes, dtype=torch.bool)
        return planes != self.invalid_value


def channels_of(observation: dict[str, Any], keys: Sequence[str]) -> dict[str, int]:
    """How many channels each picture has."""
    return {key: int(to_planes(observation[key]).shape[-3]) for key in keys}
