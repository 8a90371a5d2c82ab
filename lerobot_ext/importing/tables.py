# SPDX-License-Identifier: Apache-2.0
"""Rows of an episode as the table that LeRobot writes to its data files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq


def numbers_table(schema: pa.Schema, columns: Mapping[str, npt.NDArray[Any]]) -> pa.Table:
    """A table of numeric columns.

    Args:
        schema (`pyarrow.Schema`): Of the data files; columns that `columns` lacks are left out.
        columns (`Mapping`): (n,) or (n, width) by name.
    """
    arrays, fields = [], []
    for field in schema:
        if field.name in columns:
            arrays.append(_array(columns[field.name], field.type))
            fields.append(field)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=schema.metadata))


def _array(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(values).ravel()).cast(kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(np.ascontiguousarray(values).reshape(-1)).cast(kind)


class PictureRows:
    """Kept pictures of one camera, taken in order from the files of all segments.

    Args:
        paths (`Iterator[Path]`): Parquet files of one column.
    """

    def __init__(self, paths: Iterator[Path]) -> None:
        self._batches = self._read(paths)
        self._left: pa.RecordBatch | None = None

    def _read(self, paths: Iterator[Path]) -> Iterator[pa.RecordBatch]:
        for path in paths:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=64)

    def take(self, count: int) -> pa.ChunkedArray:
        """The next `count` pictures."""
        taken = []
        while count:
            batch = self._left if self._left is not None else next(self._batches)
            part = batch.slice(0, count)
            taken.append(part.column(0))
            count -= len(part)
            self._left = batch.slice(len(part)) if len(part) < len(batch) else None
        return pa.chunked_array(taken)
