# SPDX-License-Identifier: Apache-2.0
"""Lets a policy look back in time with its state alone, without decoding every camera for each frame.

LeRobot asks a policy for one `observation_delta_indices` and applies it to states and cameras alike: a policy
with a history of twelve states decodes twelve video frames a camera and sample, eleven of them for nothing. A
config may say in a property `camera_delta_indices` which frames its cameras need; those without it are read
as in stock.
"""

import functools
import inspect
import logging
from typing import Any

from lerobot.datasets import factory

from lerobot_ext.lerobot_window import inside_tested_window

PROPERTY = "camera_delta_indices"

logger = logging.getLogger(__name__)


def install() -> bool:
    """Make `lerobot-train` honour `camera_delta_indices` in every dataset opened from now on.

    LeRobot has no hook for it, so this wraps one function, `resolve_delta_timestamps` of
    `lerobot.datasets.factory`, and only where it is the one this was written for.

    Returns:
        Whether it is in effect; if not, one log line says why, and training is correct but slower with
        cameras.
    """
    stock = factory.resolve_delta_timestamps
    if hasattr(stock, "__wrapped__"):
        return True
    if not inside_tested_window() or list(inspect.signature(stock).parameters) != ["cfg", "ds_meta"]:
        logger.warning(
            "lerobot_ext: this LeRobot's `resolve_delta_timestamps` is not the one we tested; cameras"
            " are decoded for every frame of a policy's history. Install lerobot>=0.6.1,<0.7."
        )
        return False

    @functools.wraps(stock)
    def resolve_delta_timestamps(cfg: Any, ds_meta: Any) -> dict[str, list[float]] | None:
        windows: dict[str, list[float]] | None = stock(cfg, ds_meta)
        wanted = getattr(cfg, PROPERTY, None)
        if windows is None or wanted is None:
            return windows
        for key in ds_meta.camera_keys:
            if key in windows:
                windows[key] = [index / ds_meta.fps for index in wanted]
        return windows

    factory.resolve_delta_timestamps = resolve_delta_timestamps
    return True


def uninstall() -> None:
    """Give LeRobot its own function back."""
    factory.resolve_delta_timestamps = getattr(
        factory.resolve_delta_timestamps, "__wrapped__", factory.resolve_delta_timestamps
    )
