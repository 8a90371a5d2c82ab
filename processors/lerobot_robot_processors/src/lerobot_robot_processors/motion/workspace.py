# SPDX-License-Identifier: Apache-2.0
"""Where the end effector may be: inside a box, an upright cylinder or ring, above a floor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

Point = tuple[float, float, float]

_AXES: Final = ("x", "y", "z")
_ROUNDS: Final = 60
_INSIDE_M: Final = 1e-9


@dataclass(frozen=True)
class Workspace:
    """The points that keep all bounds, in m in the frame of the arm's base.

    Args:
        box (`dict[str, list[float | None]]`): `[lowest, highest]` of `x`, `y`, `z`; None is free.
        radius (`list[float]`, *optional*): `[smallest, largest]` distance from an upright axis.
        axis (`list[float]`): Where that axis stands, x and y.
        floor (`float`, *optional*): Lowest z.

    Raises:
        ValueError: A bound is no number, is empty, or nothing is left of all of them.
    """

    box: dict[str, list[float | None]]
    radius: list[float] | None
    axis: list[float]
    floor: float | None

    def __post_init__(self) -> None:
        for name, pair in self.box.items():
            if name not in _AXES:
                raise ValueError(f"`box` has an axis {name!r}; the axes are x, y and z.")
            _require_pair(f"box[{name!r}]", pair)
        if self.radius is not None:
            _require_pair("radius", self.radius)
            if self.radius[0] < 0.0:
                raise ValueError(f"`radius` is {self.radius}; the smallest must be 0 or more.")
        if len(self.axis) != 2 or not all(map(math.isfinite, self.axis)):
            raise ValueError(f"`axis` is {self.axis}; give x and y of the cylinder's axis.")
        if self.floor is not None and not math.isfinite(self.floor):
            raise ValueError(f"`floor` is {self.floor}; give the lowest z in m.")
        if not self.box and self.radius is None and self.floor is None:
            raise ValueError("The workspace has no bound; give `box`, `radius` or `floor`.")
        self._require_room()

    def _require_room(self) -> None:
        """Look for a point that keeps all bounds, from several places."""
        far = 10.0 + sum(abs(v) for pair in self.box.values() for v in pair if v is not None)
        seeds = [(x, y, z) for x in (-far, 0.01, far) for y in (-far, 0.02, far) for z in (-far, far)]
        if not any(self.nearest(seed) is not None for seed in seeds):
            raise ValueError(
                f"Nothing is inside `box` {self.box}, `radius` {self.radius} and `floor` {self.floor} "
                "at once; widen one."
            )

    def contains(self, point: Sequence[float]) -> bool:
        """Whether a point keeps all bounds; one that is not finite never does."""
        for axis, value in zip(_AXES, point, strict=True):
            low, high = self._limits(axis)
            if not low - _INSIDE_M <= value <= high + _INSIDE_M:
                return False
        if not all(map(math.isfinite, point)):
            return False
        if self.radius is None:
            return True
        distance = math.hypot(point[0] - self.axis[0], point[1] - self.axis[1])
        return self.radius[0] - _INSIDE_M <= distance <= self.radius[1] + _INSIDE_M

    def nearest(self, point: Sequence[float]) -> Point | None:
        """A point inside that is near; the point itself if it is inside, None if none is found.

        Of one bound it is the nearest. Of several it is found by going from one to the other in turn.
        """
        if not all(map(math.isfinite, point)):
            return None
        x, y, z = point
        for _ in range(_ROUNDS):
            if self.contains((x, y, z)):
                return x, y, z
            x, y = self._on_ring(x, y)
            x, y, z = self._boxed("x", x), self._boxed("y", y), self._boxed("z", z)
        return (x, y, z) if self.contains((x, y, z)) else None

    def _limits(self, axis: str) -> tuple[float, float]:
        low, high = self.box.get(axis, (None, None))
        lowest = -math.inf if low is None else low
        if axis == "z" and self.floor is not None:
            lowest = max(lowest, self.floor)
        return lowest, math.inf if high is None else high

    def _boxed(self, axis: str, value: float) -> float:
        low, high = self._limits(axis)
        return min(max(value, low), high)

    def _on_ring(self, x: float, y: float) -> tuple[float, float]:
        if self.radius is None:
            return x, y
        dx, dy = x - self.axis[0], y - self.axis[1]
        distance = math.hypot(dx, dy)
        wanted = min(max(distance, self.radius[0]), self.radius[1])
        if distance == wanted:
            return x, y
        if distance < 1e-9:  # on the axis every way out is as near: forward
            return self.axis[0], self.axis[1] + wanted
        return self.axis[0] + dx * wanted / distance, self.axis[1] + dy * wanted / distance


def _require_pair(field: str, pair: Any) -> None:
    numbers = list(pair) if isinstance(pair, (list, tuple)) else []
    right = len(numbers) == 2 and all(
        v is None or (isinstance(v, (int, float)) and math.isfinite(v)) for v in numbers
    )
    if not right or (field == "radius" and None in numbers):
        raise ValueError(f"`{field}` is {pair!r}; give [lowest, highest] in m.")
    if None not in numbers and not numbers[0] <= numbers[1]:
        raise ValueError(f"`{field}` is {pair!r}; the lowest must not be above the highest.")
