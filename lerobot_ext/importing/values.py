# SPDX-License-Identifier: Apache-2.0
"""Numbers out of HDF5 datasets: read as float32 or bool, and looked through block by block."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lerobot_ext.importing.findings import Problem

if TYPE_CHECKING:
    import h5py

Floats = npt.NDArray[np.float32]
_BLOCK_BYTES: Final = 8 * 2**20
_RE_EXPORT: Final = "export it as one number, or one row of numbers, a frame"


def check_column(dataset: "h5py.Dataset", place: str, *, scalar: bool) -> Problem | None:
    """What is wrong with the type or shape of a column.

    Args:
        dataset (`h5py.Dataset`): The column.
        place (`str`): For the message.
        scalar (`bool`): Whether it should hold one number a frame: a reward, a terminal.
    """
    dtype, shape = dataset.dtype, dataset.shape
    if dtype.kind not in "fiub":
        kind = {"V": "compound", "O": "object", "S": "text", "U": "text"}.get(dtype.kind, dtype.kind)
        return Problem("dtype", place, f"holds {kind} values ({dtype}), numbers were expected", _RE_EXPORT)
    if not shape:
        return Problem("shape", place, "is a single value, not one a frame", _RE_EXPORT)
    width = int(np.prod(shape[1:], dtype=np.int64))
    if scalar and width != 1:
        return Problem("shape", place, f"has shape {shape}, one number a frame was expected", _RE_EXPORT)
    if not scalar and (len(shape) > 2 or width == 0):
        return Problem("shape", place, f"has shape {shape}, (N, width) was expected", _RE_EXPORT)
    return None


def read_rows(dataset: "h5py.Dataset", start: int, stop: int) -> Floats:
    """(n, width) rows as float32."""
    # Beyond float32's range numbers become infinite: `scan` has looked for those.
    with np.errstate(over="ignore"):
        return np.asarray(dataset[start:stop]).astype(np.float32).reshape(stop - start, -1)


def read_flags(dataset: "h5py.Dataset", start: int, stop: int) -> npt.NDArray[np.bool_]:
    """(n,) flags; anything but zero is true."""
    return np.asarray(np.asarray(dataset[start:stop]).reshape(-1) != 0)


def scan(dataset: "h5py.Dataset", place: str, *, flags: bool) -> list[Problem]:
    """Look through all values.

    Args:
        dataset (`h5py.Dataset`): A column that `check_column` found nothing wrong with.
        place (`str`): For the message.
        flags (`bool`): Whether only 0 and 1 are expected.

    Returns:
        NaN, infinite and too large values; with `flags` everything but 0 and 1.

    Raises:
        OSError: The file is damaged there.
    """
    not_finite: list[int] = []
    odd: set[float] = set()
    for low, rows in _blocks(dataset):
        with np.errstate(over="ignore"):
            narrow = rows.astype(np.float32)
        bad = ~np.isfinite(narrow) if rows.dtype.kind == "f" else _inexact(rows, narrow)
        if bad.any():
            not_finite += (low + np.flatnonzero(bad.reshape(len(rows), -1).any(1))).tolist()
        if flags and not bad.any():
            odd |= {float(value) for value in np.unique(narrow)} - {0.0, 1.0}
    problems = []
    if not_finite:
        listed = ", ".join(map(str, not_finite[:5])) + (", …" if len(not_finite) > 5 else "")
        text = f"holds NaN, infinite or too large values in {len(not_finite)} rows ({listed})"
        problems.append(Problem("nan", place, text, "mend or cut those rows where the file was written"))
    if odd:
        text = f"holds {sorted(odd)[:5]}, only 0 and 1 were expected"
        problems.append(Problem("flags", place, text, "is this another quantity? Say so in a --mapping file"))
    return problems


def _inexact(rows: npt.NDArray[Any], narrow: Floats) -> npt.NDArray[np.bool_]:
    """Integers that float32 cannot hold."""
    if rows.dtype.kind == "b" or rows.dtype.itemsize <= 2:
        return np.zeros(rows.shape, bool)
    return np.asarray(narrow.astype(np.float64) != rows.astype(np.float64))


def _blocks(dataset: "h5py.Dataset") -> Any:
    row_bytes = max(1, int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize)
    step = max(1, _BLOCK_BYTES // row_bytes)
    for low in range(0, dataset.shape[0], step):
        yield low, np.asarray(dataset[low : low + step])
