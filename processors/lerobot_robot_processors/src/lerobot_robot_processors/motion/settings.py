# SPDX-License-Identifier: Apache-2.0
"""Settings of steps: one value for all joints or one a joint, checked once."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..joint_values import SUFFIX

PerJoint = float | Mapping[str, float] | None
"""One number for all joints, numbers by joint (joints left out are free), or None: free."""


def require_choice(field: str, value: str, choices: Sequence[str]) -> None:
    """Raise `ValueError` unless a setting is one of some words."""
    if value not in choices:
        raise ValueError(f"`{field}` is {value!r}; give one of {', '.join(map(repr, choices))}.")


def require_positive(field: str, value: Any, *, zero: bool = False) -> float:
    """A setting that has to be a finite number above 0 (or 0 itself, with `zero`).

    Raises:
        ValueError: It is not.
    """
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not right or value < 0 or (value == 0 and not zero):
        raise ValueError(
            f"`{field}` is {value!r}; give a finite number {'of 0 or more' if zero else 'above 0'}."
        )
    return float(value)


def require_per_joint(field: str, value: PerJoint, *, zero: bool = False) -> None:
    """Raise `ValueError` unless a setting is None, a positive number, or positive numbers by joint."""
    for name, number in value.items() if isinstance(value, Mapping) else [("", value)]:
        if value is not None:
            require_positive(f"{field}[{name!r}]" if name else field, number, zero=zero)


def for_joint(value: PerJoint, name: str, free: float = math.inf) -> float:
    """What a setting says about one joint; `free` where it says nothing."""
    if isinstance(value, Mapping):
        return float(value.get(name, free))
    return free if value is None else float(value)


def named_joints(*values: Any) -> set[str]:
    """Joints that settings name."""
    return {name for value in values if isinstance(value, Mapping) for name in value}


def require_known(field: str, named: set[str], names: Sequence[str]) -> None:
    """Raise `ValueError` if a setting names joints that are not there.

    Args:
        field (`str`): What to blame.
        named (`set[str]`): Joints that settings name.
        names (`Sequence[str]`): Joints that there are.
    """
    unknown = sorted(named - set(names))
    if unknown:
        which = ", ".join(f"`{name}{SUFFIX}`" for name in unknown)
        raise ValueError(
            f"{field} name {which}; the joints are {', '.join(names)}. For tensors, whose columns have no "
            "names, give `joint_names` in the order of the columns."
        )
