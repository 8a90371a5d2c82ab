# SPDX-License-Identifier: Apache-2.0
"""Whether a value is what a feature of a robot, a teleoperator or a camera promises."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

from lerobot_ext.testing.contract import broken


def require_values(values: Mapping[str, Any], features: Mapping[str, Any]) -> None:
    """Break the running rule unless a device's `values` are exactly what its `features` promise."""
    missing, extra = sorted(set(features) - set(values)), sorted(set(values) - set(features))
    if missing or extra:
        broken(f"keys differ: missing {missing}, not promised {extra}")
    for name, kind in features.items():
        problem = value_problem(values[name], kind)
        if problem:
            broken(f"`{name}` {problem}")


def value_problem(value: Any, kind: Any) -> str:
    """What is wrong with one value of an observation or action.

    Args:
        value (`Any`): What the device returned.
        kind (`Any`): What its features promise: `float`, another type, or (height, width, channels).

    Returns:
        `str`: A phrase that follows the feature's name; empty when all is well.
    """
    if isinstance(kind, tuple):
        return picture_problem(value, kind)
    if kind is not float and isinstance(kind, type):
        return "" if isinstance(value, kind) else f"is a {type(value).__name__}, not a {kind.__name__}"
    # numpy's numbers count: LeRobot puts them into an array of float32.
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return f"is a {type(value).__name__} ({value!r}), not a number"
    if not math.isfinite(value):
        return f"is {value}"
    return ""


def picture_problem(value: Any, shape: tuple[int, ...]) -> str:
    """What is wrong with a picture that should be (height, width, channels); see `value_problem`."""
    import numpy as np

    if not isinstance(value, np.ndarray):
        return f"is a {type(value).__name__}, not a numpy array"
    if value.shape != tuple(shape):
        return f"has shape {value.shape}, promised is {tuple(shape)}"
    if shape[-1] == 3 and value.dtype != np.uint8:
        return f"has dtype {value.dtype}, pictures are uint8"
    return ""
