# SPDX-License-Identifier: Apache-2.0
"""Motor values of either side of a policy, as one array: a robot's named numbers, or a policy's tensors.

A robot's action and observation are dicts such as `{"shoulder_pan.pos": 12.5, …, "front": picture}`; a
policy's are tensors (…, D) whose columns have an order and no names. Steps compute with `JointValues.array`,
(…, D) in float64, and hand the result back in the shape, type and device it came in:

    joints = read_joints(action)
    return joints.replaced(smooth(joints.array))
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

FloatArray = NDArray[np.float64]

SUFFIX: Final = ".pos"
"""How LeRobot's robots call a motor's position: `<motor>.pos`."""


@dataclass(frozen=True)
class JointValues:
    """Positions of some motors, and where they came from.

    Args:
        names (`tuple[str, ...]`): Motors without `.pos`, one a column. Columns of a tensor that nobody named
            are called `0`, `1`, ….
        array (`FloatArray`): (…, D) values in float64; of a dict (D,).
        source (`Any`): The dict, tensor or array that was read.
    """

    names: tuple[str, ...]
    array: FloatArray
    source: Any

    def replaced(self, array: FloatArray) -> Any:
        """`source` with other values: a new dict with everything else kept, or a new tensor or array.

        Args:
            array (`FloatArray`): (…, D), the shape of `array`.
        """
        if isinstance(self.source, Mapping):
            values = (float(value) for value in array)
            return {
                **self.source,
                **{f"{name}{SUFFIX}": value for name, value in zip(self.names, values, strict=True)},
            }
        return like(self.source, array)

    def column(self, name: str) -> int:
        """Where a motor is.

        Raises:
            KeyError: There is no such motor.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(f"`{name}{SUFFIX}` is not among {list(self.names)}.") from None


def like(source: Any, array: FloatArray) -> Any:
    """`array` as what `source` is: a tensor of its type on its device, or an array of its type."""
    if isinstance(source, Tensor):
        kind = source.dtype if source.is_floating_point() else None
        return from_numpy(np.ascontiguousarray(array)).to(device=source.device, dtype=kind)
    kept: Any = np.asarray(source).dtype
    return array.astype(kept if np.issubdtype(kept, np.floating) else np.float64)


def to_array(source: Any) -> FloatArray:
    """A tensor, array or sequence as float64 on the CPU; always a copy."""
    if isinstance(source, Tensor):
        return source.detach().cpu().numpy().astype(np.float64)
    return np.array(source, dtype=np.float64)


def motor_names(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The motors in a robot's dict, in its order: what ends in `.pos` and is one number."""
    return tuple(
        key[: -len(SUFFIX)]
        for key, value in values.items()
        if isinstance(key, str) and key.endswith(SUFFIX) and is_number(value)
    )


def is_number(value: Any) -> bool:
    """Whether a dict's value is one number: Python's, numpy's or a tensor's single one."""
    if isinstance(value, numbers.Real):
        return not isinstance(value, bool)
    return isinstance(value, (Tensor, np.ndarray)) and value.shape == ()


def read_joints(source: Any, names: Sequence[str] | None = None) -> JointValues:
    """The motor values in an action or observation.

    Args:
        source (`Any`): A robot's dict, or a tensor or array (…, D).
        names (`Sequence[str]`, *optional*): Motors without `.pos`. Of a dict: which ones, and in which order;
            all of it by default. Of a tensor: what its columns are called, all of them.

    Returns:
        `JointValues`: Values in float64, copied.

    Raises:
        KeyError: The dict lacks one of `names`; names the key.
        ValueError: A tensor has another width than `names`, or no axis at all.
    """
    if isinstance(source, Mapping):
        wanted = tuple(names) if names is not None else motor_names(source)
        absent = [f"{name}{SUFFIX}" for name in wanted if f"{name}{SUFFIX}" not in source]
        if absent:
            raise KeyError(
                f"{', '.join(f'`{key}`' for key in absent)} missing; there are {sorted(map(str, source))}."
            )
        return JointValues(wanted, np.array([float(source[f"{name}{SUFFIX}"]) for name in wanted]), source)
    array = to_array(source)
    if array.ndim == 0:
        raise ValueError("Motor values need an axis of motors; got a single number.")
    width = array.shape[-1]
    if names is not None and len(names) != width:
        raise ValueError(
            f"`joint_names` names {len(names)} motors ({', '.join(names)}); the tensor has {width} columns."
        )
    return JointValues(tuple(names) if names is not None else tuple(map(str, range(width))), array, source)
