# SPDX-License-Identifier: Apache-2.0
"""`metrics.csv`: one row a step, one column a metric; columns may be added while a run goes on.

Numbers are written as Python writes them, so that they read back exactly. A file whose last line was cut off
by a sudden end is read without that line.
"""

import csv
import io
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from lerobot_ext.data.durable import replacing

STEP = "step"

logger = logging.getLogger(__name__)


class MetricsFileError(ValueError):
    """A file that is no `metrics.csv`."""


def read_metrics(path: Path) -> tuple[list[str], dict[int, dict[str, float]]]:
    """The columns of a `metrics.csv` but for `step`, and its rows by step, in rising order.

    Args:
        path (`Path`): The file.

    Returns:
        Column names and `{step: {column: value}}`; cells that are empty are left out. Of two rows of one step
        the later counts. Rows that are damaged are left out, with one line in the log.

    Raises:
        MetricsFileError: There is no column `step`.
        OSError: The file cannot be read.
    """
    # A power loss can leave zeros, which no decoder minds but csv does.
    text = path.read_bytes().decode("utf-8", errors="replace").replace("\0", "�")
    whole, _, cut_off = text.rpartition("\n")
    lines = csv.reader(io.StringIO(whole, newline=""))
    header = next(lines, [])
    if STEP not in header or len(set(header)) != len(header):
        raise MetricsFileError(
            f"{path} is no metrics.csv: its first line has "
            f"{'two columns of one name' if STEP in header else f'no column `{STEP}`'}; "
            "move it away, or name the file that lerobot-train wrote"
        )
    rows: dict[int, dict[str, float]] = {}
    damaged = int(bool(cut_off))
    for cells in _lines(lines):
        row = _row(header, cells)
        if row is None:
            damaged += 1
        else:
            rows[int(row.pop(STEP))] = row
    if damaged:
        logger.warning("lerobot_ext: %s: %d damaged rows are left out.", path, damaged)
    return [name for name in header if name != STEP], dict(sorted(rows.items()))


class MetricsFile:
    """A `metrics.csv` that is being written; a row can be added to until the next one comes.

    Args:
        path (`Path`): The file; made if it is not there.
        first_step (`int`): Rows of later steps are dropped: they were measured after the checkpoint that the
            run resumes from, and are measured again.

    Raises:
        MetricsFileError: There is another kind of file.
        OSError: The file cannot be read or written.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        self.path = path
        self._columns: list[str] = []
        self._step: int | None = None
        self._row: dict[str, float] = {}
        self._at = 0  # where the row begins
        if path.exists():
            self._columns, rows = read_metrics(path)
            self._rewrite({step: row for step, row in rows.items() if step <= first_step})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write a row, or add to it if it is the last one.

        Args:
            step (`int`): Not below that of the last row.
            values (`Mapping[str, float]`): Value of each metric.

        Raises:
            ValueError: The step was passed already.
            OSError: The disk is full, for instance.
        """
        if self._step is not None and step < self._step:
            raise ValueError(f"step {step} comes after step {self._step}; rows are written in order")
        if step == self._step:
            self._row |= values
        else:
            self._row = dict(values)
            self._at = self.path.stat().st_size if self.path.exists() else 0
            self._step = step
        new = [name for name in values if name not in self._columns]
        if new or self._at == 0:
            rows = read_metrics(self.path)[1] if self.path.exists() else {}
            self._columns += new
            self._rewrite(rows | {step: self._row})
            return
        with self.path.open("r+b") as file:
            file.seek(self._at)
            file.write(self._line(step, self._row))
            file.truncate()

    def _rewrite(self, rows: Mapping[int, Mapping[str, float]]) -> None:
        """Write the whole file anew, at once; its last row becomes the one that can be added to."""
        lines = [self._line(step, row) for step, row in rows.items()]
        header = _csv([STEP, *self._columns])
        with replacing(self.path) as new:
            new.write_bytes(header + b"".join(lines))
        if rows:
            self._step = next(reversed(list(rows)))
            self._row = dict(rows[self._step])
            self._at = len(header) + sum(map(len, lines[:-1]))

    def _line(self, step: int, row: Mapping[str, float]) -> bytes:
        return _csv([str(step), *(_text(row[name]) if name in row else "" for name in self._columns)])


def _row(header: list[str], cells: list[str]) -> dict[str, float] | None:
    """One row; `None` if it is damaged."""
    if len(cells) != len(header):
        return None
    try:
        row = {name: float(cell) for name, cell in zip(header, cells, strict=True) if cell}
    except ValueError:
        return None
    return row if STEP in row and row[STEP].is_integer() else None


def _lines(lines: Iterable[list[str]]) -> Iterable[list[str]]:
    """The lines that hold something; a stray quote that csv cannot read ends the file."""
    try:
        yield from (cells for cells in lines if cells)
    except csv.Error:
        yield []


def _text(value: float) -> str:
    return repr(int(value)) if isinstance(value, int) else repr(float(value))


def _csv(cells: Iterable[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
