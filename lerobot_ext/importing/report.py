# SPDX-License-Identifier: Apache-2.0
"""What `--validate` shows: the tree of each file, what becomes of it, and everything that is wrong."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.cli.look import table
from lerobot_ext.importing.survey import Survey
from lerobot_ext.importing.tree import Entry

if TYPE_CHECKING:
    from rich.console import Console

_FILES: Final = 3  # whose trees are shown


def as_json(found: Survey) -> dict[str, Any]:
    """Everything that was found."""
    return {
        "files": found.files,
        "layout": found.mapping.layout if found.mapping else None,
        "mapping": found.mapping.as_plain() if found.mapping else None,
        "trees": found.trees,
        "episodes": len(found.episodes),
        "frames": found.n_frames,
        "problems": found.problems,
        "notes": found.notes,
    }


def show(found: Survey, console: "Console") -> None:
    """Print it for a person."""
    for file, tree in zip(found.files[:_FILES], found.trees, strict=False):
        ordered = sorted(tree, key=lambda entry: entry.path)
        rows = [(row.path, row.kind, row.dtype, _shape(row), row.note) for row in _collapsed(ordered)]
        console.print(table(str(file), ("path", "kind", "dtype", "shape", ""), rows))
    if len(found.files) > _FILES:
        console.print(f"… and {len(found.files) - _FILES} more files", markup=False)
    if found.mapping is not None:
        columns = [(column.name, ", ".join(column.paths)) for column in found.mapping.columns]
        cameras = [(camera.name, camera.path) for camera in found.mapping.cameras]
        signals = [(f"next.{name}", path) for name, path in found.mapping.signals.items()]
        console.print(
            table(f"layout {found.mapping.layout}", ("feature", "from"), columns + cameras + signals)
        )
        console.print(f"{len(found.episodes)} episodes, {found.n_frames} frames", markup=False)
    for note in found.notes:
        console.print(f"note: {note}", markup=False)
    for problem in found.problems:
        console.print(f"{problem.code}: {problem}", markup=False)
    said = f"{len(found.problems)} problems" if found.problems else "no problems"
    console.print(said, markup=False)


def _shape(entry: Entry) -> str:
    return str(entry.shape) if entry.kind == "dataset" else ""


def _collapsed(tree: Sequence[Entry]) -> Iterator[Entry]:
    """The tree without the 2nd to last of groups that differ only by their number."""
    shown: dict[str, str] = {}
    hidden: dict[str, int] = {}
    for entry in tree:
        top = "/".join(entry.path.split("/")[:2])
        pattern = re.sub(r"\d+", "*", top)
        if entry.kind == "group" and entry.path == top and top != pattern:
            if pattern in shown:
                hidden[pattern] = hidden.get(pattern, 0) + 1
                continue
            shown[pattern] = top
        if pattern in shown and top != shown[pattern]:
            continue
        yield entry
    for pattern, count in hidden.items():
        yield Entry(pattern, "group", note=f"{count} more like {shown[pattern]}")
