# SPDX-License-Identifier: Apache-2.0
"""The shared look of `lerobot-ext` commands: console, tables, progress bars, `--json`.

Import it inside a command's `run`, not at module level: rich takes longer to import than the whole of
`lerobot-ext --help`. `add_json_option` is the exception, it needs no rich.
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


def add_json_option(parser: ArgumentParser) -> None:
    """Give a command `--json`: machine-readable output on stdout, and nothing else there."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def write_json(value: Any) -> None:
    """Write `value` as indented JSON to stdout; dataclasses and paths are converted."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain, ensure_ascii=False) + "\n")


def console(*, stderr: bool = False) -> "Console":
    """A console for people. Piped into a file it writes neither colour nor line breaks of its own.

    Args:
        stderr (`bool`, *optional*, defaults to `False`): Write to stderr, for progress beside `--json`.
    """
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    # Without a terminal rich assumes 80 columns and breaks long lines, which breaks grep and pasted commands.
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=200, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """A table of `rows` under `columns`; cells are shown as text, markup in them is not interpreted.

    Args:
        title (`str`): Heading, may be empty.
        columns (`Sequence[str]`): Column names.
        rows (`Iterable[Sequence]`): One sequence of cells a row, as long as `columns`.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def progress(*, stderr: bool = True) -> "Progress":
    """A progress display with bar, count, rate and time left; use it as a context manager.

    Args:
        stderr (`bool`, *optional*, defaults to `True`): Draw on stderr, so that stdout stays clean for
            results.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=stderr),
    )


def _plain(value: Any) -> Any:
    """What `json` cannot write by itself."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(
        f"a {type(value).__name__} cannot be written as JSON; convert it to text or numbers first"
    )
