# SPDX-License-Identifier: Apache-2.0
"""What the steps of this package share: how their fields are saved, checked, and matched with keys."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from lerobot.configs.types import PipelineFeatureType
from lerobot.processor import ProcessorStep, TransitionKey

Transition = dict[Any, Any]
Features = dict[PipelineFeatureType, dict[str, Any]]


class ConfiguredStep(ProcessorStep):
    """A dataclass step whose public constructor fields are its saved configuration."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments by name, for the saved pipeline."""
        return init_fields(self)


def init_fields(step: Any) -> dict[str, Any]:
    """The constructor's arguments of a dataclass and their values now, for `get_config`."""
    return {
        field.name: copy.deepcopy(getattr(step, field.name))
        for field in dataclasses.fields(step)
        if field.init and not field.name.startswith("_")
    }


def require(field: str, value: Any, fits: bool, expected: str) -> None:
    """Refuse a step's field.

    Raises:
        ValueError: Not `fits`; names field, value and what is `expected`.
    """
    if not fits:
        raise ValueError(f"`{field}` ({value!r}) must be {expected}.")


def is_whole(value: Any, least: int = 0) -> bool:
    """Whether `value` is an integer, no bool, of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number, no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def is_names(value: Any) -> bool:
    """Whether `value` is a list or tuple of text."""
    return isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)


def observation_of(transition: Transition, step: object) -> dict[str, Any]:
    """A transition's observation.

    Raises:
        ValueError: There is none.
    """
    found = transition.get(TransitionKey.OBSERVATION)
    if not isinstance(found, dict):
        raise ValueError(
            f"{type(step).__name__} works on the observation, and the transition has none; put the step into "
            "a pipeline that gets observations."
        )
    return found


def matching(
    patterns: Sequence[str],
    keys: Iterable[str],
    what: str,
    names: Callable[[str], Sequence[str]] = lambda key: (key,),
) -> list[str]:
    """The keys that match at least one pattern, in their own order.

    Args:
        patterns (`Sequence[str]`): Names or globs (`*`, `?`, `[…]`).
        keys (`Iterable[str]`): What there is.
        what (`str`): What the keys are, for the error: `camera`.
        names (`Callable`): The names by which a key may be called.

    Raises:
        KeyError: A pattern matches none.
    """
    known = list(keys)
    hits = {
        pattern: [key for key in known if any(fnmatchcase(name, pattern) for name in names(key))]
        for pattern in patterns
    }
    for pattern, found in hits.items():
        if not found:
            there = ", ".join(f"`{key}`" for key in known) or "none"
            raise KeyError(f"no {what} matches `{pattern}`; there are {there}.")
    chosen = {key for found in hits.values() for key in found}
    return [key for key in known if key in chosen]
