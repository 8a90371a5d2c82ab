# SPDX-License-Identifier: Apache-2.0
"""Says in a few letters which dataset, in which state of its files, something was made from."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def of_files(root: Path, files: Iterable[Path], about: Any) -> str:
    """A fingerprint that changes with any of the files' names, sizes or times, and with `about`.

    Args:
        root (`Path`): The dataset's folder.
        files (`Iterable[Path]`): Below it.
        about (`Any`): What else matters: anything `json` can write, or its `repr`.

    Raises:
        OSError: One of the files is not there.
    """
    stamps = []
    for file in sorted(files):
        status = file.stat()
        stamps.append((str(file), status.st_size, status.st_mtime_ns, status.st_ino))
    text = json.dumps([str(root.resolve()), stamps, about], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def data_files(root: Path) -> list[Path]:
    """The files that a dataset's columns and the bounds of its episodes are read from."""
    return [
        root / "meta" / "info.json",
        *sorted((root / "meta" / "episodes").glob("*/*.parquet")),
        *sorted((root / "data").glob("*/*.parquet")),
    ]
