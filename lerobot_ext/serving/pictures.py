# SPDX-License-Identifier: Apache-2.0
"""JPEG on the wire: sizes are read and compared before anything is decoded."""

import io
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from lerobot_ext.serving.strict_json import PayloadError

Picture = npt.NDArray[np.uint8]

_SOI: Final = b"\xff\xd8"
_SOF0: Final = 0xC0
_SOS: Final = 0xDA
# Quantisation and Huffman tables, restart interval, the JFIF marker: all that a plain JPEG needs. No EXIF, no
# colour profile, no progressive scans (a small file of those keeps a decoder busy for seconds).
_ALLOWED: Final = {_SOF0, _SOS, 0xC4, 0xDB, 0xDD, 0xE0}


def compress(picture: Picture, quality: int) -> npt.NDArray[np.uint8]:
    """A picture as JPEG.

    Args:
        picture (`ndarray`): (H, W, 3) RGB, uint8.
        quality (`int`): 1 to 100.

    Returns:
        (N,) uint8.
    """
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "JPEG", quality=quality)
    return np.frombuffer(target.getvalue(), np.uint8)


def decompress(data: npt.NDArray[np.uint8], shape: tuple[int, ...], name: str) -> Picture:
    """Decode a JPEG that is exactly `shape`.

    Args:
        data (`ndarray`): (N,) uint8.
        shape (`tuple[int, ...]`): (H, W, 3) as it must be.
        name (`str`): The picture's name, for messages.

    Returns:
        (H, W, 3) RGB, uint8.

    Raises:
        PayloadError: It is no plain JPEG, has another size, or is damaged.
    """
    raw = data.tobytes()
    height, width, channels = _size(raw, name)
    if (height, width, channels) != tuple(shape):
        raise PayloadError(
            f"picture `{name}` is {width}x{height} with {channels} channels; it must be "
            f"{shape[1]}x{shape[0]} with {shape[2]}"
        )
    try:
        with Image.open(io.BytesIO(raw), formats=["JPEG"]) as image:
            decoded = np.array(image.convert("RGB"), dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error, IndexError) as error:
        raise PayloadError(f"picture `{name}` is damaged: {error}") from None
    if decoded.shape != tuple(shape):
        raise PayloadError(f"picture `{name}` is not as large as its header says")
    return decoded


def _size(raw: bytes, name: str) -> tuple[int, int, int]:
    """Height, width and channels from the frame header of a plain JPEG.

    Raises:
        PayloadError: There is none before the picture's data, more than one, or a segment that is not
            allowed.
    """
    frames = []
    for marker, segment in _segments(raw, name):
        if marker not in _ALLOWED:
            raise PayloadError(f"picture `{name}`: segment 0x{marker:02x} is not part of a plain JPEG")
        if marker == _SOF0:
            if len(segment) < 6:
                raise PayloadError(f"picture `{name}` has a frame header of {len(segment)} bytes")
            _, height, width, channels = struct.unpack_from(">BHHB", segment)
            frames.append((height, width, channels))
    if len(frames) != 1:
        raise PayloadError(f"picture `{name}` has {len(frames)} frame headers instead of one")
    return frames[0]


def _segments(raw: bytes, name: str) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment up to the first scan, which is the last one given."""
    if raw[:2] != _SOI:
        raise PayloadError(f"picture `{name}` is no JPEG")
    at = 2
    while True:
        if at + 4 > len(raw) or raw[at] != 0xFF:
            raise PayloadError(f"picture `{name}` is damaged before its data")
        marker = raw[at + 1]
        (length,) = struct.unpack_from(">H", raw, at + 2)
        if length < 2 or at + 2 + length > len(raw):
            raise PayloadError(f"picture `{name}` is cut off")
        yield marker, raw[at + 4 : at + 2 + length]
        if marker == _SOS:
            return
        at += 2 + length
