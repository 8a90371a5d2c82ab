# SPDX-License-Identifier: Apache-2.0
"""What a batch holds at one place on its way to the policy, and what changed since the place before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import torch

Change = Literal["new", "removed", "shape", "dtype", "device", "values"]
_TEXT: Final = 40


@dataclass(frozen=True)
class Value:
    """One entry of a batch.

    Args:
        kind (`str`): `tensor`, or the Python type.
        shape (`tuple[int, ...]`, *optional*): Of a tensor; of a list its length.
        dtype (`str`), device (`str`): Of a tensor.
        low (`float`, *optional*), mean (`float`, *optional*), high (`float`, *optional*): Over its finite
            numbers.
        bad (`int`): NaN and infinite numbers.
        text (`str`): Anything else, shortened.
    """

    kind: str
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    device: str = ""
    low: float | None = None
    mean: float | None = None
    high: float | None = None
    bad: int = 0
    text: str = ""


@dataclass(frozen=True)
class Stage:
    """A batch at one place.

    Args:
        name (`str`): Which place.
        values (`dict[str, Value]`): Its entries.
        changes (`dict[str, Change]`): What differs from the stage before, by entry; removed ones included.
    """

    name: str
    values: dict[str, Value]
    changes: dict[str, Change] = field(default_factory=dict)


def stage(name: str, batch: Mapping[str, Any], before: Stage | None = None) -> Stage:
    """Describe a batch; entries that are `None` or empty are no entries.

    Args:
        name (`str`): The place.
        batch (`Mapping`): What is there.
        before (`Stage`, *optional*): The place before, to compare with.
    """
    values = {
        key: describe(value) for key, value in batch.items() if value is not None and not _is_empty(value)
    }
    return Stage(name, values, _changes(before.values, values) if before is not None else {})


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict | list | tuple) and not value


def describe(value: Any) -> Value:
    """One entry in a few numbers; the tensor itself is not kept."""
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, dict):
        return Value("dict", text=_short(", ".join(map(str, value))))
    if isinstance(value, list | tuple):
        return Value(type(value).__name__, shape=(len(value),), text=_short(repr(value[0])) if value else "")
    return Value(type(value).__name__, text=_short(repr(value)))


def _tensor(value: torch.Tensor) -> Value:
    known = Value("tensor", tuple(value.shape), str(value.dtype).removeprefix("torch."), str(value.device))
    if not value.numel() or value.is_complex():
        return known
    numbers = value.detach().double()
    finite = numbers[numbers.isfinite()]
    bad = numbers.numel() - finite.numel()
    if not finite.numel():
        return Value(known.kind, known.shape, known.dtype, known.device, bad=bad)
    low, mean, high = finite.min().item(), finite.mean().item(), finite.max().item()
    return Value(known.kind, known.shape, known.dtype, known.device, low, mean, high, bad)


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"


def _changes(before: Mapping[str, Value], after: Mapping[str, Value]) -> dict[str, Change]:
    found: dict[str, Change] = {key: "removed" for key in before if key not in after}
    for key, value in after.items():
        change = _change(before.get(key), value)
        if change:
            found[key] = change
    return found


def _change(before: Value | None, after: Value) -> Change | None:
    """The weightiest difference."""
    if before is None:
        return "new"
    if (before.kind, before.shape) != (after.kind, after.shape):
        return "shape"
    if before.dtype != after.dtype:
        return "dtype"
    if before != after:
        one, other = (
            Value(v.kind, v.shape, v.dtype, "", v.low, v.mean, v.high, v.bad, v.text) for v in (before, after)
        )
        return "device" if one == other else "values"
    return None
