# SPDX-License-Identifier: Apache-2.0
"""What is in an HDF5 file, damaged or not: every group, dataset and link, without following a link away.

Nothing here trusts the file: links that point elsewhere are named and not followed, a group that contains
itself is seen once, and whatever libhdf5 cannot read is an entry with the reason in place of a shape.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.importing.findings import Problem, SourceError, nearest

if TYPE_CHECKING:
    import h5py

# What h5py raises for a damaged file; which of them depends on the structure that is damaged.
H5_ERRORS: Final = (OSError, KeyError, RuntimeError, ValueError, TypeError, UnicodeError, MemoryError)
MOST_ENTRIES: Final = 50_000
MOST_LEVELS: Final = 32
_KEEP: Final = "copy what it points to into this file, `h5copy` does so, or leave it out with --mapping"


@dataclass(frozen=True)
class Entry:
    """A line of the tree.

    Args:
        path (`str`): Without a leading slash.
        kind (`str`): `group`, `dataset`, `link` or `unreadable`.
        shape (`tuple`): Of a dataset.
        dtype (`str`): Of a dataset.
        note (`str`): Compression of a dataset, target of a link, or why it is unreadable.
    """

    path: str
    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    note: str = ""


def reason(error: BaseException) -> str:
    """What h5py said, in one line."""
    text = " ".join(str(error).split()).strip("'\"")
    return text[:200] or type(error).__name__


@contextmanager
def opened(path: Path) -> "Iterator[h5py.File]":
    """An HDF5 file to read from.

    Raises:
        SourceError: It is no HDF5 file, or its outermost structure is damaged.
    """
    import h5py

    problem = None
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        problem = Problem("missing-file", str(path), "there is no such file")
    except IsADirectoryError:
        problem = Problem("missing-file", str(path), "is a folder", "name the .hdf5 files in it")
    except H5_ERRORS as error:
        text, remedy = _why_not_opened(path, reason(error))
        problem = Problem("unreadable-file", str(path), text, remedy)
    if problem is not None:
        raise SourceError([problem])
    try:
        yield file
    finally:
        file.close()


def _why_not_opened(path: Path, said: str) -> tuple[str, str]:
    lowered = said.lower()
    if "lock file" in lowered:
        return f"is being written by another program ({said})", "close that program, then convert"
    if path.is_dir():
        return "is a folder", "name the .hdf5 files in it"
    if "truncated" in lowered or "eof" in lowered:
        return f"was cut short ({said})", "copy or download it again; `h5clear` and `h5dump` may save a part"
    if "signature" in lowered or "superblock" in lowered:
        return f"is no HDF5 file ({said})", "name an .hdf5 file; other formats need another converter"
    return f"cannot be opened: {said}", "`h5dump -H FILE` says more; copy or download the file again"


def walk(group: "h5py.Group") -> Iterator[Entry]:
    """The entries below a group, parents first, each object once.

    A file that lists more than `MOST_ENTRIES` is cut off there with an `unreadable` entry.
    """
    seen: set[int] = set()
    stack = [("", group)]
    count = 0
    while stack:
        prefix, here = stack.pop()
        try:
            names = sorted(here.keys())
        except H5_ERRORS as error:
            yield Entry(prefix or "/", "unreadable", note=reason(error))
            continue
        below = []
        for name in names:
            count += 1
            if count > MOST_ENTRIES or prefix.count("/") > MOST_LEVELS:
                yield Entry(f"{prefix}{name}", "unreadable", note="too many or too deeply nested entries")
                return
            entry, child = _entry(here, name, f"{prefix}{name}", seen)
            yield entry
            if child is not None:
                below.append((f"{prefix}{name}/", child))
        stack += reversed(below)


def _entry(group: "h5py.Group", name: str, path: str, seen: set[int]) -> tuple[Entry, Any]:
    """One entry, and the group behind it if it is one."""
    import h5py

    try:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return Entry(path, "link", note=f"external link to {link.filename}:{link.path}"), None
        if isinstance(link, h5py.SoftLink):
            return Entry(path, "link", note=f"soft link to {link.path}"), None
        found = group[name]
        if isinstance(found, h5py.Group):
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                return Entry(path, "link", note="contains itself"), None
            seen.add(address)
            return Entry(path, "group"), found
        if isinstance(found, h5py.Dataset):
            compression = found.compression or ""
            return Entry(path, "dataset", tuple(found.shape or ()), str(found.dtype), compression), None
        return Entry(path, "unreadable", note=f"a named {type(found).__name__.lower()}, no data"), None
    except H5_ERRORS as error:
        return Entry(path, "unreadable", note=reason(error)), None


def dataset_at(group: "h5py.Group", path: str, where: str) -> "h5py.Dataset | Problem":
    """The dataset at a path below a group, or why there is none that can be read.

    Args:
        group (`h5py.Group`): Where the path begins.
        path (`str`): With slashes.
        where (`str`): File and group, for the message.
    """
    import h5py

    place = f"{where}/{path}".replace("//", "/")
    here: Any = group
    for name in path.strip("/").split("/"):
        try:
            if not isinstance(here, h5py.Group) or name not in here.keys():  # noqa: SIM118 - no dict: `in` follows links
                known = [entry.path for entry in walk(group) if entry.kind == "dataset"]
                return Problem(
                    "missing-key", place, f"is missing{nearest(path, known)}", _missing_remedy(known)
                )
            link = here.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                text = f"is an external link to {link.filename}, which is not followed"
                return Problem("external-link", place, text, _KEEP)
            here = here[name]
        except H5_ERRORS as error:
            text = (
                "is a link to nothing" if isinstance(error, KeyError) else f"cannot be read: {reason(error)}"
            )
            return Problem("unreadable", place, text, "record or export this file again, or leave it out")
    if not isinstance(here, h5py.Dataset):
        return Problem("not-a-dataset", place, "is a group, a dataset was expected", "name what is in it")
    return _readable(here, place)


def _missing_remedy(known: list[str]) -> str:
    listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f"there are: {listed}; name what is there in a --mapping file" if known else "the group is empty"


def _readable(dataset: "h5py.Dataset", place: str) -> "h5py.Dataset | Problem":
    """The dataset, if libhdf5 can get at its bytes."""
    try:
        if dataset.external:
            return Problem("external-storage", place, "keeps its bytes in another file", _KEEP)
        if dataset.is_virtual:
            return Problem("virtual", place, "is a view of other files", "`h5repack` makes a real one of it")
        missing = _missing_filter(dataset)
    except H5_ERRORS as error:
        return Problem("unreadable", place, f"cannot be read: {reason(error)}", "export this file again")
    if missing:
        return Problem(
            "compression",
            place,
            f"is compressed by {missing}, which h5py cannot read here",
            "`pip install hdf5plugin`, or `h5repack -f NONE OLD NEW` where it was written",
        )
    return dataset


def _missing_filter(dataset: "h5py.Dataset") -> str:
    """The first filter of a dataset that is not available; empty if all are."""
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers blosc, zstd, … with libhdf5
    made = dataset.id.get_create_plist()
    for index in range(made.get_nfilters()):
        code, _, _, name = made.get_filter(index)
        if not h5py.h5z.filter_avail(code):
            return f"filter {code} ({name.decode(errors='replace') or 'unknown'})"
    return ""
