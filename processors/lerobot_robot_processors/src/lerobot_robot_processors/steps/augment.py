# SPDX-License-Identifier: Apache-2.0
"""Augments pictures while a policy trains, and at no other time.

How the step knows: `lerobot-train` calls the preprocessor with gradients on and with the actions to learn.
Everything else that calls a preprocessor lacks one of the two:

| caller                                   | gradients | action in the transition |
|------------------------------------------|-----------|--------------------------|
| training step                            | on        | yes                      |
| loss on held-out episodes (`eval_steps`)  | off       | yes                      |
| `lerobot-eval`, evaluation while training | off, but on in the threads of `max_parallel_tasks` | no |
| `lerobot-rollout`, sync                  | off       | no                       |
| `lerobot-rollout`, RTC; policy server    | on        | no                       |

So neither sign alone would do, and both together are exact.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from lerobot.processor import ProcessorStepRegistry, TransitionKey
from torch import Tensor

from lerobot_robot_processors import warps
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
from lerobot_robot_processors.pictures import DEPTH_SUFFIX, camera_of, describe, picture_keys

WHEN = ("training", "always", "never")
# Drawn numbers per sample and camera; each operation has its own place, so that one more operation in the
# configuration changes nothing about the others.
_DRAWN = 20


@ProcessorStepRegistry.register("lerobot_ext_augment")
@dataclass
class AugmentStep(ConfiguredStep):
    """Random colours, shifts, crops, turns, blur, noise and holes, drawn anew for each sample.

    All times of a sample get the same transform, and so does a camera's depth map (`<camera>_depth`), of
    which only the geometry changes. Pictures come as floats in [0, 1], so the step stands before the
    normaliser. An operation is off at its default. All geometry is one interpolation.

    Args:
        brightness (`float`, *optional*, defaults to `0.0`): Factor from 1 - x to 1 + x.
        contrast (`float`, *optional*, defaults to `0.0`): The same of the distance to the mean grey.
        saturation (`float`, *optional*, defaults to `0.0`): The same of the distance to grey.
        hue (`float`, *optional*, defaults to `0.0`): Turns of the colour wheel, from -x to x; at most 0.5.
        shift_px (`int`, *optional*, defaults to `0`): DrQ's random shift: whole pixels, up to x each way.
        crop (`float`, *optional*, defaults to `1.0`): Smallest share of height and width that a random crop
            keeps; it is zoomed back to the picture's size.
        rotate_deg (`float`, *optional*, defaults to `0.0`): Degrees, from -x to x.
        shear_deg (`float`, *optional*, defaults to `0.0`): Degrees, from -x to x.
        blur_sigma_px (`float`, *optional*, defaults to `0.0`): Gaussian blur, sigma from 0 to x pixels.
        noise (`float`, *optional*, defaults to `0.0`): Deviation of Gaussian noise, from 0 to x of the range.
        erase (`float`, *optional*, defaults to `0.0`): Probability of a black box over 2 to 20 % of the
            picture.
        probability (`float`, *optional*, defaults to `1.0`): Share of samples that are changed at all.
        same_for_cameras (`bool`, *optional*, defaults to `False`): One draw for all cameras of a sample.
        cameras (`list[str]`, *optional*): Names, keys or globs; None takes all pictures.
        when (`str`, *optional*, defaults to `"training"`): `always` and `never` are for looking at the
            pictures.

    Raises:
        ValueError: A field is out of range; a picture is not float or not in [0, 1].
        KeyError: One of `cameras` is not in the observation.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    shift_px: int = 0
    crop: float = 1.0
    rotate_deg: float = 0.0
    shear_deg: float = 0.0
    blur_sigma_px: float = 0.0
    noise: float = 0.0
    erase: float = 0.0
    probability: float = 1.0
    same_for_cameras: bool = False
    cameras: list[str] | None = None
    when: str = "training"
    _range_seen: bool = field(default=False, init=False, repr=False)

    def leaves_actions_alone(self) -> bool:
        """Whether a policy that runs, rather than trains, acts the same without this step."""
        return self.when != "always"

    def __post_init__(self) -> None:
        ranges = {
            "brightness": (0, 1),
            "contrast": (0, 1),
            "saturation": (0, 1),
            "hue": (0, 0.5),
            "rotate_deg": (0, 180),
            "shear_deg": (0, 60),
            "blur_sigma_px": (0, 100),
            "noise": (0, 1),
            "erase": (0, 1),
            "probability": (0, 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            require(name, value, is_number(value) and low <= value <= high, f"from {low} to {high}")
        require("crop", self.crop, is_number(self.crop) and 0 < self.crop <= 1, "above 0, at most 1")
        require("shift_px", self.shift_px, is_whole(self.shift_px), "whole pixels, 0 or more")
        require("when", self.when, self.when in WHEN, f"one of {', '.join(WHEN)}")
        named = self.cameras is None or is_names(self.cameras)
        require("cameras", self.cameras, named, "a list of names, or none")

    def __call__(self, transition: Transition) -> Transition:
        """The transition with augmented pictures while training, and the one given at any other time."""
        observation = observation_of(transition, self)
        keys = picture_keys(observation, self.cameras)
        if not keys or not self._active(transition):
            return transition
        changed = dict(observation)
        pictures = {key: self._checked(key, observation[key]) for key in keys}
        self._range_seen = True
        drawn = self._draw(pictures)
        for key, picture in pictures.items():
            changed[key] = self._augmented(picture, drawn[self._group(key)])
        return {**transition, TransitionKey.OBSERVATION: changed}

    def transform_features(self, features: Features) -> Features:
        """Unchanged."""
        return features

    def _active(self, transition: Transition) -> bool:
        if self.when != "training":
            return self.when == "always"
        return torch.is_grad_enabled() and transition.get(TransitionKey.ACTION) is not None

    def _checked(self, key: str, picture: Any) -> Tensor:
        """The picture, if it is what the colour operations are defined for."""
        if not isinstance(picture, Tensor) or not picture.is_floating_point():
            raise ValueError(
                f"{describe(key, picture)}: augmentation takes floating-point tensors in [0, 1], as "
                "lerobot-train gives them; put it into a policy's preprocessor."
            )
        # Looked at once: it makes a GPU wait.
        if not self._range_seen and picture.numel() and picture.shape[-3] == 3:
            low, high = float(picture.min()), float(picture.max())
            if not -1e-3 <= low <= high <= 1 + 1e-3:
                raise ValueError(
                    f"`{key}` reaches from {low:.3g} to {high:.3g}, and augmentation takes [0, 1]; put it "
                    "before `normalizer_processor`."
                )
        return picture

    def _group(self, key: str) -> str:
        """What shares its draw: a camera with its depth map, or all cameras."""
        return "" if self.same_for_cameras else camera_of(key).removesuffix(DEPTH_SUFFIX)

    def _draw(self, pictures: dict[str, Tensor]) -> dict[str, Tensor]:
        """Uniform numbers (B, _DRAWN) of each group, from torch's generator, which `--seed` seeds.

        They are drawn on the CPU: the same whatever device the pictures are on.
        """
        size = max(_samples(picture) for picture in pictures.values())
        return {name: torch.rand(size, _DRAWN) for name in sorted({self._group(key) for key in pictures})}

    def _augmented(self, picture: Tensor, drawn: Tensor) -> Tensor:
        """One camera's pictures (…, C, H, W) changed by uniform numbers (B, _DRAWN)."""
        stacked = _as_samples(picture)
        samples, height, width = len(stacked), *stacked.shape[-2:]
        uniform = drawn[:samples].to(stacked.device, stacked.dtype)
        is_colour = stacked.shape[-3] == 3
        new = stacked
        if self._moves:
            matrix = self._matrix(uniform, height, width)
            new = warps.warp(new, matrix) if is_colour else warps.warp_nearest(new, matrix)
        if is_colour:
            new = self._recoloured(new, uniform)
        if self.erase:
            new = warps.erase(new, _hole(uniform[:, 14:19], self.erase))
        kept = (uniform[:, 19] >= self.probability).view(-1, 1, 1, 1, 1)
        return torch.where(kept, stacked, new).view(picture.shape)

    def _recoloured(self, new: Tensor, uniform: Tensor) -> Tensor:
        if self.brightness:
            new = warps.adjust_brightness(new, 1 + self.brightness * _signed(uniform[:, 0]))
        if self.contrast:
            new = warps.adjust_contrast(new, 1 + self.contrast * _signed(uniform[:, 1]))
        if self.saturation:
            new = warps.adjust_saturation(new, 1 + self.saturation * _signed(uniform[:, 2]))
        if self.hue:
            new = warps.adjust_hue(new, self.hue * _signed(uniform[:, 3]))
        if self.blur_sigma_px:
            size = 2 * min(max(1, math.ceil(2 * self.blur_sigma_px)), min(new.shape[-2:]) - 1) + 1
            new = warps.blur(new, self.blur_sigma_px * uniform[:, 4], size)
        if self.noise:
            deviation = (self.noise * uniform[:, 5]).view(-1, 1, 1, 1, 1)
            new = (new + torch.randn_like(new) * deviation).clamp(0, 1)
        return new

    @property
    def _moves(self) -> bool:
        return bool(self.shift_px or self.crop < 1 or self.rotate_deg or self.shear_deg)

    def _matrix(self, uniform: Tensor, height: int, width: int) -> Tensor:
        """(B, 2, 3): shift, crop, rotation and shear as one map."""
        angle = math.radians(self.rotate_deg) * _signed(uniform[:, 6])
        shear = math.radians(self.shear_deg) * _signed(uniform[:, 7])
        share = 1 - (1 - self.crop) * uniform[:, 8]
        steps = 2 * self.shift_px + 1
        shift = (uniform[:, 9:11] * steps).floor().clamp(max=steps - 1) - self.shift_px
        # A crop around another place than the middle: that place moves there.
        room = (1 - share).unsqueeze(-1) * uniform.new_tensor([width, height]) / 2 / share.unsqueeze(-1)
        shift = shift + room * _signed(uniform[:, 11:13])
        return warps.affine_matrix(angle, 1 / share, shear, shift, height, width)


def _signed(uniform: Tensor) -> Tensor:
    """From [0, 1) to [-1, 1)."""
    return 2 * uniform - 1


def _samples(picture: Tensor) -> int:
    return 1 if picture.ndim == 3 else len(picture)


def _as_samples(picture: Tensor) -> Tensor:
    """(C, H, W), (B, C, H, W) or (B, T, C, H, W) as (B, N, C, H, W)."""
    batch = picture.unsqueeze(0) if picture.ndim == 3 else picture
    return batch.reshape(len(batch), -1, *batch.shape[-3:])


def _hole(uniform: Tensor, probability: float) -> Tensor:
    """Boxes (B, 4) for `erase` from uniform numbers (B, 5): 2 to 20 % of the area, aspect 0.3 to 3.3."""
    area = 0.02 + 0.18 * uniform[:, 0]
    aspect = torch.exp(_signed(uniform[:, 1]) * math.log(3.3))
    tall, wide = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    top, left = uniform[:, 2] * (1 - tall), uniform[:, 3] * (1 - wide)
    drawn = (uniform[:, 4] < probability).to(uniform.dtype)
    return torch.stack([top, left, top + tall * drawn, left + wide * drawn], dim=-1)
