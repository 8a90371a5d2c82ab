# SPDX-License-Identifier: Apache-2.0
"""Cuts and resizes pictures to the size that a network takes, on the robot or first thing before a policy.

Both sides go through one function, so a picture that is resized while recording is the picture that is
resized before the policy: an array (H, W, C) and a tensor (C, H, W) of the same numbers come out the same.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lerobot.processor import ProcessorStepRegistry, TransitionKey
from torch import Tensor

from lerobot_robot_processors.configured import (
    ConfiguredStep,
    Features,
    Transition,
    is_names,
    is_number,
    is_whole,
    observation_of,
    require,
)
from lerobot_robot_processors.pictures import (
    camera_of,
    like,
    picture_features,
    picture_keys,
    to_planes,
    with_picture_shapes,
)

FITS = ("pad", "crop", "stretch")
INTERPOLATIONS = ("bilinear", "nearest")
# torch 2.11 interpolates to a width of one pixel wrongly (antialiased), or aborts.
_LEAST = 2


class Plan(NamedTuple):
    """What is done to one size of picture; pixels of the source, of the result and of its margins."""

    top: int
    left: int
    height: int
    width: int
    inner: tuple[int, int]
    margins: tuple[int, int, int, int]  # left, right, top, bottom, as torch's `pad` takes them

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the result."""
        left, right, top, bottom = self.margins
        return self.inner[0] + top + bottom, self.inner[1] + left + right


@ProcessorStepRegistry.register("lerobot_ext_crop_resize")
@dataclass
class CropResizeStep(ConfiguredStep):
    """Cut a box out of each picture and bring it to `height` x `width`.

    First `crop_box`, then `centre_crop`, then the size. Colours are interpolated with antialiasing. A picture
    of one channel is a depth map for LeRobot: it takes the nearest pixel, as a mean of near and far is a
    surface where there is none. A picture that has its size already passes as the same object.

    Args:
        height (`int`, *optional*): Pixels of the result; None, for both, only cuts.
        width (`int`, *optional*): Pixels of the result.
        fit (`str`, *optional*, defaults to `"pad"`): How another aspect ratio fits: `pad` keeps all of the
            picture between margins, `crop` fills the size and cuts what stands out, `stretch` distorts.
        crop_box (`list[int]`, *optional*): `[top, left, height, width]` in pixels of the source.
        centre_crop (`list[int]`, *optional*): `[height, width]` in pixels, around the middle.
        antialias (`bool`, *optional*, defaults to `True`): Average over all pixels that become one.
        interpolation (`str`, *optional*, defaults to `"bilinear"`): Or `nearest`; of colours.
        pad_value (`float`, *optional*, defaults to `0.0`): The margins' grey, 0 black to 1 white; depth has
            0, which is "not measured".
        cameras (`list[str]`, *optional*): Names, keys or globs of the pictures; None takes all.
        per_camera (`dict[str, dict]`, *optional*): Fields from `height` to `pad_value` that differ for the
            cameras that match a name or glob; the first match counts.

    Raises:
        ValueError: A field is out of range; a picture is smaller than its crop.
        KeyError: One of `cameras` is not in the observation.
    """

    height: int | None = None
    width: int | None = None
    fit: str = "pad"
    crop_box: list[int] | None = None
    centre_crop: list[int] | None = None
    antialias: bool = True
    interpolation: str = "bilinear"
    pad_value: float = 0.0
    cameras: list[str] | None = None
    per_camera: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            "height", self.height, self.height is None or is_whole(self.height, _LEAST), "2 or more pixels"
        )
        require("width", self.width, self.width is None or is_whole(self.width, _LEAST), "2 or more pixels")
        both = (self.height is None) == (self.width is None)
        require("width", self.width, both, f"given or left out together with `height` ({self.height!r})")
        require("fit", self.fit, self.fit in FITS, f"one of {', '.join(FITS)}")
        require(
            "interpolation",
            self.interpolation,
            self.interpolation in INTERPOLATIONS,
            f"one of {', '.join(INTERPOLATIONS)}",
        )
        grey = is_number(self.pad_value) and 0 <= self.pad_value <= 1
        require("pad_value", self.pad_value, grey, "a grey from 0 to 1")
        _require_pixels("crop_box", self.crop_box, ("top", "left", "height", "width"))
        _require_pixels("centre_crop", self.centre_crop, ("height", "width"))
        named = self.cameras is None or is_names(self.cameras)
        require("cameras", self.cameras, named, "a list of names, or none")
        self._variants = {pattern: self._variant(fields) for pattern, fields in self.per_camera.items()}
        self._plans: dict[tuple[str, int, int], Plan] = {}

    def __call__(self, transition: Transition) -> Transition:
        """The transition with its pictures cut and resized; arrays stay arrays, types stay."""
        observation = dict(observation_of(transition, self))
        for key in picture_keys(observation, self.cameras):
            observation[key] = self._resized(key, observation[key])
        return {**transition, TransitionKey.OBSERVATION: observation}

    def transform_features(self, features: Features) -> Features:
        """The features with the new heights and widths."""
        shapes = {}
        for key, (channels, height, width) in picture_features(features, self.cameras).items():
            shapes[key] = (channels, *self.plan(key, height, width).shape)
        return with_picture_shapes(features, shapes)

    def plan(self, key: str, height: int, width: int) -> Plan:
        """What is done to a picture of `height` x `width` pixels under `key`.

        Raises:
            ValueError: The picture is smaller than its crop.
        """
        known = self._plans.get((key, height, width))
        if known is None:
            known = self._of(key)._plan(key, height, width)
            self._plans[key, height, width] = known
        return known

    def _plan(self, key: str, height: int, width: int) -> Plan:
        top, left, tall, wide = self.crop_box or (0, 0, height, width)
        if self.centre_crop:
            inner_tall, inner_wide = self.centre_crop
            top, left = top + (tall - inner_tall) // 2, left + (wide - inner_wide) // 2
            if inner_tall > tall or inner_wide > wide:
                raise ValueError(_too_small(key, "centre_crop", self.centre_crop, tall, wide))
            tall, wide = inner_tall, inner_wide
        if top + tall > height or left + wide > width:
            raise ValueError(_too_small(key, "crop_box", self.crop_box, height, width))
        if self.height is None or self.width is None:
            return Plan(top, left, tall, wide, (tall, wide), (0, 0, 0, 0))
        size = (self.height, self.width)
        if self.fit == "crop":
            # The largest part of the target's aspect ratio.
            scale = min(tall / size[0], wide / size[1])
            kept = (min(tall, max(1, round(size[0] * scale))), min(wide, max(1, round(size[1] * scale))))
            top, left = top + (tall - kept[0]) // 2, left + (wide - kept[1]) // 2
            return Plan(top, left, *kept, size, (0, 0, 0, 0))
        if self.fit == "stretch":
            return Plan(top, left, tall, wide, size, (0, 0, 0, 0))
        scale = min(size[0] / tall, size[1] / wide)
        inner = (
            min(size[0], max(_LEAST, round(tall * scale))),
            min(size[1], max(_LEAST, round(wide * scale))),
        )
        above, before = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        margins = (before, size[1] - inner[1] - before, above, size[0] - inner[0] - above)
        return Plan(top, left, tall, wide, inner, margins)

    def _resized(self, key: str, picture: Any) -> Any:
        planes = to_planes(picture)
        height, width = planes.shape[-2:]
        plan = self.plan(key, height, width)
        if plan.shape == (height, width) and plan.inner == (plan.height, plan.width) == (height, width):
            return picture
        settings = self._of(key)
        cut = planes[..., plan.top : plan.top + plan.height, plan.left : plan.left + plan.width]
        if plan.inner != (plan.height, plan.width):
            cut = settings._interpolated(cut, plan.inner)
        if any(plan.margins):
            is_depth = planes.shape[-3] == 1
            grey = 0.0 if is_depth else settings.pad_value * (1.0 if cut.is_floating_point() else 255)
            cut = _padded(cut, plan.margins, grey if cut.is_floating_point() else round(grey))
        return like(cut, picture)

    def _interpolated(self, cut: Tensor, size: tuple[int, int]) -> Tensor:
        """`cut` (..., C, H, W) in `size`, in its own type."""
        # An array's axes in this form are what torch knows as channels last: half the time of any other.
        array = cut.ndim == 3 and cut.stride(-3) == 1
        batch = cut.movedim(0, -1).unsqueeze(0).movedim(-1, 1) if array else cut.reshape(-1, *cut.shape[-3:])
        if cut.shape[-3] == 1 or self.interpolation == "nearest":
            rows = _nearest(size[0], cut.shape[-2], cut.device)
            columns = _nearest(size[1], cut.shape[-1], cut.device)
            # Of uint16 torch only knows how to copy.
            return cut.index_select(-2, rows).index_select(-1, columns)
        exact = batch.is_floating_point() or (batch.dtype == torch.uint8 and batch.device.type == "cpu")
        numbers = batch if exact else batch.float()
        scaled = F.interpolate(
            numbers, size=size, mode="bilinear", align_corners=False, antialias=self.antialias
        )
        if not exact:
            ends = torch.iinfo(batch.dtype)
            scaled = scaled.round().clamp(ends.min, ends.max).to(batch.dtype)
        return scaled.reshape(*cut.shape[:-2], *size)

    def _of(self, key: str) -> "CropResizeStep":
        for pattern, variant in self._variants.items():
            if fnmatchcase(camera_of(key), pattern) or fnmatchcase(key, pattern):
                return variant
        return self

    def _variant(self, fields: dict[str, Any]) -> "CropResizeStep":
        own = {key: value for key, value in self.get_config().items() if key not in ("cameras", "per_camera")}
        unknown = sorted(set(fields) - set(own))
        require("per_camera", unknown, not unknown, f"made of the fields {', '.join(own)}")
        return CropResizeStep(**{**own, **fields})


def _padded(planes: Tensor, margins: tuple[int, int, int, int], grey: float) -> Tensor:
    """`planes` (..., C, H, W) with margins; an array's axes stay in the order of an array."""
    if planes.ndim == 3 and planes.stride(0) == 1:
        return F.pad(planes.movedim(0, -1), (0, 0, *margins), value=grey).movedim(-1, 0)
    return F.pad(planes, margins, value=grey)


def _nearest(size: int, source: int, device: torch.device) -> Tensor:
    """The source pixel under the middle of each of `size` pixels."""
    middles = (torch.arange(size, device=device, dtype=torch.float64) + 0.5) * (source / size)
    return middles.long().clamp(max=source - 1)


def _require_pixels(name: str, value: Any, parts: tuple[str, ...]) -> None:
    if value is None:
        return
    sized = isinstance(value, (list, tuple)) and len(value) == len(parts)
    fits = sized and all(
        is_whole(each, 1 if part in ("height", "width") else 0)
        for part, each in zip(parts, value, strict=True)
    )
    require(name, value, fits, f"[{', '.join(parts)}] in pixels")


def _too_small(key: str, name: str, value: Any, height: int, width: int) -> str:
    return (
        f"`{name}` ({value!r}) does not fit into `{key}`, of which {height} x {width} pixels are there; "
        "make it "
        "smaller, or give this camera its own box in `per_camera`."
    )
