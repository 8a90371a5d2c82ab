# SPDX-License-Identifier: Apache-2.0
"""Pictures out of HDF5 datasets, in blocks: arrays, or coded pictures (JPEG, PNG), padded or not."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from lerobot_ext.importing.findings import Problem
from lerobot_ext.importing.mapping import Camera

if TYPE_CHECKING:
    import h5py

Pictures = npt.NDArray[np.uint8]

# A block is read at once: so much of a file is in memory for each camera.
BLOCK_BYTES: Final = 8 * 2**20


class PictureError(ValueError):
    """A picture that cannot be decoded, or is not as large as the others."""


def is_coded(dataset: "h5py.Dataset") -> bool:
    """Whether each row is the bytes of a JPEG or PNG file and not an array."""
    import h5py

    if h5py.check_vlen_dtype(dataset.dtype) == np.uint8:
        return bool(dataset.ndim == 1)
    return bool(dataset.dtype == np.uint8 and dataset.ndim == 2)


def check_format(dataset: "h5py.Dataset", camera: Camera, place: str) -> Problem | None:
    """What is wrong with the type or the shape of a camera's pictures, if anything is."""
    if is_coded(dataset):
        return None
    shape: tuple[int, ...] = dataset.shape or ()
    dtype = dataset.dtype
    if dtype != np.uint8:
        hint = "scale it to 0…255 and " if dtype.kind == "f" else ""
        return Problem(
            "image-dtype",
            place,
            f"holds {dtype}, pictures must be uint8",
            f"{hint}save it as uint8, or leave the camera out with --mapping",
        )
    if len(shape) != 4:
        text = f"has shape {shape}; pictures are (N, H, W, 3), or (N, bytes) when coded"
        return Problem("image-shape", place, text, "export it so, or leave the camera out with --mapping")
    last, first = shape[3] == 3, shape[1] == 3
    if camera.channels == "last" and not last:
        return Problem(
            "channel-order",
            place,
            f"has shape {shape}, the channels are {'first' if first else 'not three'}",
            "say `channels: first` for this camera in a --mapping file"
            if first
            else "colour pictures have three channels; leave this camera out with --mapping",
        )
    if camera.channels == "first" and not first:
        text = f"has shape {shape}, which has no three channels first"
        return Problem("channel-order", place, text, "say `channels: last` for this camera")
    return None


def size_of(dataset: "h5py.Dataset", camera: Camera) -> tuple[int, int]:
    """Height and width.

    Raises:
        PictureError: The first coded picture cannot be decoded.
    """
    if is_coded(dataset):
        height, width, _ = decode(dataset[0]).shape
        return height, width
    shape = dataset.shape
    return (shape[1], shape[2]) if camera.channels == "last" else (shape[2], shape[3])


def decode(row: Any) -> Pictures:
    """A coded picture as (H, W, 3) RGB; zeros behind it are padding.

    Raises:
        PictureError: These bytes are no picture.
    """
    # Not OpenCV: it takes a picture of which half is missing, and fills it up with grey.
    try:
        with Image.open(io.BytesIO(np.ascontiguousarray(row, np.uint8))) as coded:
            return np.asarray(coded.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"a damaged JPEG or PNG picture ({error})") from error


def blocks(dataset: "h5py.Dataset", camera: Camera, start: int, stop: int) -> Iterator[Pictures]:
    """Pictures `start` to `stop` in order, (n, H, W, 3) RGB, as many at once as fit into `BLOCK_BYTES`.

    Raises:
        PictureError: A coded picture is damaged or of another size.
        OSError: The file is damaged there.
    """
    coded = is_coded(dataset)
    size: tuple[int, ...] | None = None
    for low, high in _ranges(dataset, start, stop):
        rows = dataset[low:high]
        if not coded:
            yield _rgb(rows, camera)
            continue
        for row in rows:
            picture = decode(row)
            if size is not None and picture.shape != size:
                raise PictureError(f"a picture of {picture.shape} among those of {size}")
            size = picture.shape
            yield _rgb(picture[None], Camera(camera.name, camera.path, camera.color))


def _rgb(pictures: Pictures, camera: Camera) -> Pictures:
    if camera.channels == "first":
        pictures = pictures.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pictures[..., ::-1] if camera.color == "bgr" else pictures)


def _ranges(dataset: "h5py.Dataset", start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows that end where the file's chunks do: a compressed chunk is then read once."""
    chunk = dataset.chunks[0] if dataset.chunks else 1
    row_bytes = max(1, int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize)
    if dataset.ndim == 1:  # bytes of any length
        row_bytes = 2**18
    step = max(1, BLOCK_BYTES // row_bytes // chunk) * chunk
    low = start
    while low < stop:
        high = min(stop, (low // step + 1) * step)
        yield low, high
        low = high
