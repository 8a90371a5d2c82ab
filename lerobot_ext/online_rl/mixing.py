# SPDX-License-Identifier: Apache-2.0
"""Which frames an update sees: so many of the prior data, the rest collected ones.

Everything is a function of the seed and the number of the update, so that a resumed run draws what an
uninterrupted one would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def prior_before(update: int, batch_size: int, share: float) -> int:
    """Frames of the prior data that the updates before this one have seen."""
    return math.floor(update * batch_size * share)


def prior_count(update: int, batch_size: int, share: float) -> int:
    """Frames of the prior data in this update's batch: over many, exactly their share."""
    return prior_before(update + 1, batch_size, share) - prior_before(update, batch_size, share)


def stream(seed: int, *purpose: int) -> int:
    """A seed of its own for each purpose, below 2**31."""
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1)[0]) % 2**31


def draw(seed: int, update: int, count: int, frames: int) -> NDArray[np.int64]:
    """(count,) places of the collected frames in an update's batch, uniform over 0..frames-1."""
    generator = np.random.default_rng(np.random.SeedSequence([seed, 3, update]))
    return generator.integers(0, frames, count)


def join(halves: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Batches, preprocessed, as one.

    Raises:
        ValueError: A tensor has another shape in one of them.
    """
    if len(halves) == 1:
        return halves[0]
    first, second = halves
    joined: dict[str, Any] = {}
    for key, value in first.items():
        other = second.get(key)
        if isinstance(value, torch.Tensor) and isinstance(other, torch.Tensor) and value.ndim:
            if value.shape[1:] != other.shape[1:] and value[0].numel() == other[0].numel():
                other = other.reshape(len(other), *value.shape[1:])
            if value.shape[1:] != other.shape[1:]:
                raise ValueError(
                    f"`{key}` has shape {tuple(value.shape[1:])} in the prior data and "
                    f"{tuple(other.shape[1:])} in the environment; make them alike (for pictures "
                    "--env.image_height and --env.image_width, or a resizing step in the policy's pipeline)."
                )
            joined[key] = torch.cat([value, other.to(value.dtype)])
        elif isinstance(value, list) and isinstance(other, list):
            joined[key] = value + other
        elif not isinstance(value, (torch.Tensor, list)) and type(value) is type(other) and value == other:
            joined[key] = value
    return joined
