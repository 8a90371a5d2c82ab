# SPDX-License-Identifier: Apache-2.0
"""What a recording asks of a machine: so many cameras of one size, so many frames a second."""

import re
from dataclasses import dataclass
from typing import Self

_WORD = re.compile(r"(\d+)x(\d+)x(\d+)@(\d+)")


@dataclass(frozen=True)
class Load:
    """Cameras of one size, all recorded at one rate.

    Args:
        cameras (`int`): How many.
        width (`int`): Of their frames, in pixels.
        height (`int`): Of their frames, in pixels.
        fps (`int`): Frames a second of each.

    Raises:
        ValueError: A number is not positive, or a side is odd: the encoders' pixel format halves both.
    """

    cameras: int
    width: int
    height: int
    fps: int

    def __post_init__(self) -> None:
        for name in ("cameras", "width", "height", "fps"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` ({getattr(self, name)}) must be at least 1")
        for name in ("width", "height"):
            side = getattr(self, name)
            if side % 2 or side < 64:
                raise ValueError(f"`{name}` ({side}) must be even and at least 64: encoders take no other")

    @property
    def frames_per_s(self) -> int:
        """Frames a second of all cameras together."""
        return self.cameras * self.fps

    @property
    def frame_bytes(self) -> int:
        """Of one RGB frame."""
        return 3 * self.width * self.height

    @property
    def size(self) -> str:
        """As on the command line, `640x480`."""
        return f"{self.width}x{self.height}"

    @property
    def word(self) -> str:
        """One word that names it, `3x640x480@30`."""
        return f"{self.cameras}x{self.size}@{self.fps}"

    @classmethod
    def parse(cls, word: str) -> Self:
        """The load that `word` names.

        Raises:
            ValueError: It is not of that form.
        """
        match = _WORD.fullmatch(word)
        if match is None:
            raise ValueError(f"{word!r} must be like 3x640x480@30: cameras, width, height, frames a second")
        return cls(*map(int, match.groups()))

    def covers(self, other: "Load") -> bool:
        """Whether a machine that holds this one holds `other`: it asks for no more in any respect."""
        return (
            self.cameras >= other.cameras
            and self.fps >= other.fps
            and self.width * self.height >= other.width * other.height
        )

    def __str__(self) -> str:
        cameras = f"{self.cameras} camera{'s' if self.cameras != 1 else ''}"
        return f"{cameras} of {self.size} at {self.fps} fps"
