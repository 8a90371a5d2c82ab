# SPDX-License-Identifier: Apache-2.0
"""Whether the environment pays as the prior data were paid: values of both end up in one critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARIES = "varying rewards"


@dataclass(frozen=True)
class RewardRule:
    """What is paid for a frame that does not succeed, and for one that does.

    Args:
        ordinary (`float | str | None`): The reward, `VARIES`, or None where there is no such frame.
        success (`float | str | None`): The same.
    """

    ordinary: float | str | None = None
    success: float | str | None = None

    def __str__(self) -> str:
        parts = [
            f"{_words(value)} for {what}"
            for value, what in ((self.ordinary, "an ordinary frame"), (self.success, "success"))
            if value is not None
        ]
        return " and ".join(parts) or "nothing yet"

    def __or__(self, other: RewardRule) -> RewardRule:
        return RewardRule(_both(self.ordinary, other.ordinary), _both(self.success, other.success))

    def agrees(self, other: RewardRule) -> bool:
        """Whether both may be the same rule, as far as is known."""
        pairs = ((self.ordinary, other.ordinary), (self.success, other.success))
        return all(one is None or two is None or one == two for one, two in pairs)


def rule_of_episode(rewards: NDArray[Any], succeeded: bool | None) -> RewardRule:
    """The rule by which an episode was paid; the frame that succeeds is its last.

    Args:
        rewards (`NDArray`): (T,), T at least 1.
        succeeded (`bool`, *optional*): Whether it did. Where that is not known, its last frame counts for
            neither.
    """
    if succeeded is False:
        return RewardRule(_value(rewards))
    return RewardRule(_value(rewards[:-1]), _value(rewards[-1:]) if succeeded else None)


def _value(rewards: NDArray[Any]) -> float | str | None:
    if not len(rewards):
        return None
    low, high = float(np.min(rewards)), float(np.max(rewards))
    return round(low, 6) if high - low < 1e-6 else VARIES


def _both(one: float | str | None, two: float | str | None) -> float | str | None:
    if one is None or two is None:
        return two if one is None else one
    return one if one == two else VARIES


def _words(value: float | str | None) -> str:
    return value if isinstance(value, str) else f"{value:g}"
