# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all, whatever happens to the process or the power."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".unfinished"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; `path` becomes what was written there, at once and on the disk, when all is well.

    The name keeps its ending (video libraries choose the format by it). When the body raises, `path` is as
    before and what was written is removed; after a power loss a file named `*.unfinished.*` may stay.

    Args:
        path (`Path`): The file to replace or create; its folder is created if need be.

    Example:
        ```python
        with replacing(root / "meta/info.json") as new:
            new.write_text(text)
        ```
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.stem}{SUFFIX}{path.suffix}")
    try:
        yield new
        flush_to_disk(new)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Wait until what was written to a file, or the names in a folder, are on the disk.

    A file system that cannot say so (some network shares, folders on Windows) is not an error.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
