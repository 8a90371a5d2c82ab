# SPDX-License-Identifier: Apache-2.0
"""Writes decoded frames into arrays as channels, rows, columns, bit for bit as `to_ndarray` has them."""

from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

_PLANAR = {"yuv420p", "yuvj420p"}
"""Formats for which libswscale's planar RGB was found to equal its packed RGB, where the width allows it."""

_planar_is_exact: dict[tuple[str, int, int], bool] = {}


class FrameWriter:
    """Converts the frames of one video; keeps libswscale's tables from frame to frame.

    Args:
        height (`int`): Of what is written.
        width (`int`): Of what is written.
        depth (`bool`): One channel of 12 bits in uint16 instead of RGB in uint8.
    """

    def __init__(self, height: int, width: int, *, depth: bool) -> None:
        self.shape = (1 if depth else 3, height, width)
        self.dtype = np.dtype(np.uint16 if depth else np.uint8)
        self._depth = depth
        self._reformatter = VideoReformatter()

    def write(self, frame: av.VideoFrame, out: npt.NDArray[np.generic]) -> None:
        """Convert `frame`, resizing it if it has another size.

        Args:
            frame (`VideoFrame`): A decoded frame.
            out (`np.ndarray`): `self.shape`, filled: of `self.dtype`, or float32 for RGB in [0, 1].
        """
        if self._depth:
            out[0] = self._plane(self._as(frame, "gray12le"), 0)
        elif self._use_planar(frame):
            self._write_planar(frame, out)
        else:
            _put(out, self._packed(frame).transpose(2, 0, 1))

    def _use_planar(self, frame: av.VideoFrame) -> bool:
        """Whether RGB can come from libswscale in three planes: exact, and spares a transposition.

        Its fast path writes nonsense at the right edge of some widths and rounds ten-bit video differently,
        so it is used for the formats of everyday and only after a frame of the same kind came out the same.
        """
        height, width = self.shape[1:]
        if frame.format.name not in _PLANAR or width % 16 or height % 2:
            return False
        if (frame.height, frame.width) != (height, width):
            return False
        kind = (frame.format.name, height, width)
        if kind not in _planar_is_exact:
            planar = np.empty(self.shape, np.uint8)
            self._write_planar(frame, planar)
            _planar_is_exact[kind] = np.array_equal(planar, self._packed(frame).transpose(2, 0, 1))
        return _planar_is_exact[kind]

    def _write_planar(self, frame: av.VideoFrame, out: npt.NDArray[np.generic]) -> None:
        planar = self._as(frame, "gbrp")
        for channel, plane in enumerate((2, 0, 1)):
            _put(out[channel], self._plane(planar, plane))

    def _packed(self, frame: av.VideoFrame) -> npt.NDArray[np.generic]:
        """(H, W, 3) RGB."""
        height, width = self.shape[1:]
        rows = self._plane(self._as(frame, "rgb24"), 0, width * 3)
        return rows.reshape(height, width, 3)

    def _as(self, frame: av.VideoFrame, pixels: str) -> av.VideoFrame:
        return self._reformatter.reformat(frame, self.shape[2], self.shape[1], pixels)

    def _plane(
        self, frame: av.VideoFrame, number: int, row_values: int | None = None
    ) -> npt.NDArray[np.generic]:
        """(H, row_values) a plane without the padding of its rows; valid as long as `frame` is."""
        plane = frame.planes[number]
        rows = np.frombuffer(plane, self.dtype).reshape(-1, plane.line_size // self.dtype.itemsize)
        return rows[: self.shape[1], : row_values or self.shape[2]]


def _put(out: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    """Bytes as they are; into floats divided by 255, in one pass and rounded as torch rounds it."""
    if out.dtype == np.float32:
        np.divide(values, np.float32(255), out=out, dtype=np.float32, casting="unsafe")
    else:
        out[...] = values
