# SPDX-License-Identifier: Apache-2.0
"""How a device's directions become the arm's: three words such as `-y`."""

from collections.abc import Sequence

from ..kinematics.pose import Vector

_AXES = "xyz"


class AxisMap:
    """Which of a device's axes moves the arm along x, y and z.

    Args:
        axes (`Sequence[str]`): Three of `x`, `y`, `z`, `-x`, `-y`, `-z`; each letter once.

    Raises:
        ValueError: They are something else.
    """

    def __init__(self, axes: Sequence[str]) -> None:
        letters = [axis[-1:] for axis in axes]
        if sorted(letters) != ["x", "y", "z"] or any(axis.strip("xyz") not in ("", "-") for axis in axes):
            raise ValueError(
                f"`axes` is {list(axes)}; give x, y and z in some order, each as it is or with -."
            )
        self._from = [_AXES.index(letter) for letter in letters]
        self._sign = [-1.0 if axis.startswith("-") else 1.0 for axis in axes]
        order = tuple(self._from)
        even = order in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
        # A map that mirrors turns rotations round: those change sign with it.
        self._handed = (1.0 if even else -1.0) * self._sign[0] * self._sign[1] * self._sign[2]

    def moved(self, v: Sequence[float]) -> Vector:
        """A way in the arm's frame."""
        a, b, c = (sign * float(v[i]) for sign, i in zip(self._sign, self._from, strict=True))
        return a, b, c

    def turned(self, v: Sequence[float]) -> Vector:
        """A rotation vector in the arm's frame."""
        a, b, c = self.moved(v)
        return self._handed * a, self._handed * b, self._handed * c
