# SPDX-License-Identifier: Apache-2.0
"""Lets a policy, and the checkpoint it ends in, know that it was trained on smaller pictures.

`LEROBOT_EXT_POOL=8GiB:240x320` and `--dataset.video_backend=pyav:240x320` give smaller pictures than the
dataset declares. In `lerobot-train` the declared shapes are made to agree, so that the policy is built for
what it sees, and its preprocessor gets a step that brings a robot's pictures to the same size. That step is
LeRobot's own `image_crop_resize_processor`: the checkpoint needs nothing of ours.
"""

import logging
from types import ModuleType
from typing import Any

from lerobot.processor import NormalizerProcessorStep
from lerobot.processor.hil_processor import ImageCropResizeProcessorStep

from lerobot_ext.patches import Patch
from lerobot_ext.training.script import training_script

_patch = Patch("processors of a training", lost="a checkpoint does not resize the robot's pictures")
_declared: dict[str, Any] = {"size": None, "why_not": ""}

logger = logging.getLogger(__name__)


class ResizeAsTrained(ImageCropResizeProcessorStep):  # type: ignore[misc]
    """LeRobot's step, saved by its name, for the training itself.

    There it meets what a robot never sends: masks of padding among the observations, which it would resize.
    """

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Resize the pictures, and nothing else."""
        pictures = {key: value for key, value in observation.items() if not key.endswith("_is_pad")}
        resized: dict[str, Any] = super().observation(pictures)
        return {key: resized.get(key, value) for key, value in observation.items()}


def declare(meta: Any, size: tuple[int, int]) -> None:
    """Let a dataset declare the size that its videos are given at, in a `lerobot-train` only.

    Elsewhere a dataset may be recorded to, and what it declares would be saved.

    Args:
        meta (`LeRobotDatasetMetadata`): Of the dataset; its file is not changed.
        size (`tuple[int, int]`): Height and width.
    """
    script = training_script()
    if script is None:
        return
    for key in meta.video_keys:
        declared = meta.info.features[key]
        meta.info.features[key] = {**declared, "shape": _at_size(declared, size)}
    odd = [key for key in meta.camera_keys if key in meta.depth_keys or "image" not in key]
    _declared["size"] = size
    _declared["why_not"] = f"LeRobot's step does not do that to {', '.join(odd)}" if odd else ""
    _install(script)


def _at_size(feature: dict[str, Any], size: tuple[int, int]) -> tuple[int, ...]:
    """The shape of a picture, (H, W, C) or (C, H, W) by the names of its axes, at another size."""
    shape = tuple(feature["shape"])
    last = (feature.get("names") or ["", "", "channels"])[2]
    return (*size, shape[2]) if last in ("channel", "channels") else (shape[0], *size)


def _install(script: ModuleType) -> None:
    _patch.install({(script, "make_pre_post_processors"): _make_pre_post_processors})


def uninstall() -> None:
    """Give LeRobot its own function back."""
    _patch.uninstall()
    _declared.update(size=None, why_not="")


def _make_pre_post_processors(*words: Any, **named: Any) -> tuple[Any, Any]:
    before, after = _patch.stock("make_pre_post_processors")(*words, **named)
    if _declared["why_not"]:
        logger.warning(
            "lerobot_ext: pictures are trained at %dx%d, and the checkpoint does not bring a robot's to that"
            " size: %s. Add a step that does.",
            *_declared["size"],
            _declared["why_not"],
        )
    else:
        before.steps = with_resize(list(before.steps), _declared["size"])
        logger.info("lerobot_ext: the checkpoint resizes pictures to %dx%d, as trained", *_declared["size"])
    return before, after


def with_resize(steps: list[Any], size: tuple[int, int]) -> list[Any]:
    """A preprocessor's steps, with one that resizes before pictures are normalized.

    Args:
        steps (`list[ProcessorStep]`): Its own; of a resumed run it may be among them already.
        size (`tuple[int, int]`): Height and width.
    """
    kept = [step for step in steps if not _resizes_alone(step)]
    place = next((n for n, step in enumerate(kept) if isinstance(step, NormalizerProcessorStep)), len(kept))
    return [*kept[:place], ResizeAsTrained(resize_size=size), *kept[place:]]


def _resizes_alone(step: Any) -> bool:
    return isinstance(step, ImageCropResizeProcessorStep) and not step.crop_params_dict
