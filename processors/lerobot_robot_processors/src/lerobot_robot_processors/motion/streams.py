# SPDX-License-Identifier: Apache-2.0
"""Actions as streams in time: what a step with a memory needs to treat dicts, batches and chunks alike.

A *stream* is one arm in time, with a memory of its own. A robot's dict and a tensor (D,) belong to one
stream, (B, D) are B streams at one moment, and (B, T, D) are B streams over T moments that follow each other.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def over_time(array: FloatArray, frame: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Treat the moments of `array` one after the other.

    Args:
        array (`FloatArray`): (D,), (B, D) or (B, T, D).
        frame (`Callable`): From the streams' values at one moment (B, D) to new ones (B, D).

    Returns:
        `FloatArray`: New values, of the shape of `array`.

    Raises:
        ValueError: The array has another number of axes.
    """
    if array.ndim == 1:
        single: FloatArray = frame(array[np.newaxis])[0]
        return single
    if array.ndim == 2:
        return frame(array)
    if array.ndim == 3:
        return np.stack([frame(array[:, moment]) for moment in range(array.shape[1])], axis=1)
    raise ValueError(
        f"An action has shape {array.shape}; give (D,), (B, D) for B arms, or (B, T, D) for T frames in a "
        f"row."
    )


def require_same_streams(known: int, got: int) -> None:
    """Raise `ValueError` if the number of streams changed without a reset in between."""
    if known != got:
        raise ValueError(
            f"The batch has {got} rows and had {known}: a step with a memory cannot tell which arm is which. "
            "Call `reset()` where another batch begins."
        )


def not_finite(names: Sequence[str], array: FloatArray) -> str:
    """The joints whose values (…, D) are not all finite, for a message; empty if all are."""
    rows = array.reshape(-1, array.shape[-1])
    return ", ".join(f"`{name}`" for i, name in enumerate(names) if not np.isfinite(rows[:, i]).all())
