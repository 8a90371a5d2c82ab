# SPDX-License-Identifier: Apache-2.0
"""Looks through HDF5 files before anything is converted: what is in them, and everything that is wrong.

Files are only read. All numbers are looked at, pictures by their type and shape and a few of each camera.
What comes out is a `Survey`: with no problems it says which frames are which episode.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lerobot_ext.importing import pictures, values
from lerobot_ext.importing.episodes import Episode, cut
from lerobot_ext.importing.findings import Problem, SourceError
from lerobot_ext.importing.layouts import detect, mapping_of
from lerobot_ext.importing.mapping import Camera, Mapping
from lerobot_ext.importing.tree import H5_ERRORS, Entry, dataset_at, opened, reason, walk

if TYPE_CHECKING:
    import h5py

SUFFIXES: Final = (".hdf5", ".h5", ".he5", ".hdf")
_LOOKED_AT: Final = 12  # pairs of pictures a camera and file


@dataclass(frozen=True)
class CameraSize:
    """A camera of the dataset to be, and how large its pictures are."""

    camera: Camera
    height: int
    width: int


@dataclass
class Survey:
    """What was found.

    Args:
        files (`list[Path]`): The sources, in the order of their episodes.
        trees (`list`): The entries of each file.
        mapping (`Mapping`, *optional*): What becomes what; `None` if no file could be read.
        problems (`list`): What keeps them from being converted.
        notes (`list[str]`): What is worth knowing.
        episodes (`list[Episode]`): In order.
        widths (`dict[str, int]`): Numbers a frame of each column.
        cameras (`list[CameraSize]`): All cameras.
    """

    files: list[Path]
    trees: list[list[Entry]] = field(default_factory=list)
    mapping: Mapping | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)
    widths: dict[str, int] = field(default_factory=dict)
    cameras: list[CameraSize] = field(default_factory=list)

    @property
    def n_frames(self) -> int:
        """Frames of all episodes."""
        return sum(episode.length for episode in self.episodes)

    def add(self, problem: Problem) -> None:
        """Note a problem once."""
        if problem not in self.problems:
            self.problems.append(problem)


def find_files(sources: Sequence[Path]) -> list[Path]:
    """The files that sources name: files, and all HDF5 files right in folders, sorted as people count.

    Raises:
        SourceError: A source does not exist or is a folder without one.
    """
    problems, files = [], []
    for source in sources:
        if source.is_dir():
            inside = [path for path in source.iterdir() if path.suffix.lower() in SUFFIXES]
            if not inside:
                problems.append(
                    Problem("missing-file", str(source), f"has no file ending in {', '.join(SUFFIXES)}")
                )
            files += sorted(inside, key=_as_counted)
        elif source.exists():
            files.append(source)
        else:
            problems.append(Problem("missing-file", str(source), "there is no such file"))
    if problems:
        raise SourceError(problems)
    return files


def _as_counted(path: Path) -> list[tuple[int, str]]:
    """`episode_10` after `episode_9`."""
    return [(int(part or 0), word) for word, part in re.findall(r"(\D*)(\d*)", path.name)]


def survey(
    files: Sequence[Path],
    layout: str = "auto",
    mapping: Mapping | None = None,
    tell: Callable[[Path], None] = lambda file: None,
) -> Survey:
    """Look through files.

    Args:
        files (`Sequence[Path]`): Of one layout.
        layout (`str`, *optional*, defaults to `"auto"`): One of `LAYOUTS`.
        mapping (`Mapping`, *optional*): The user's own; `layout` is then not asked.
        tell (`Callable`, *optional*): Called with each file when it has been looked through.
    """
    found = Survey(list(files), mapping=mapping)
    for index, path in enumerate(files):
        try:
            with opened(path) as file:
                tree = list(walk(file))
                found.trees.append(tree)
                if found.mapping is None:
                    found.mapping = _mapping(layout, tree, str(path))
                _look_at_file(found, index, file)
        except SourceError as error:
            for problem in error.problems:
                found.add(problem)
            found.trees += [[]] * (index + 1 - len(found.trees))
        except H5_ERRORS as error:
            found.add(Problem("unreadable-file", str(path), f"is damaged: {reason(error)}", "copy it again"))
            found.trees += [[]] * (index + 1 - len(found.trees))
        tell(path)
    _check_whole(found)
    return found


def _mapping(layout: str, tree: Sequence[Entry], where: str) -> Mapping:
    datasets = {entry.path: entry.shape for entry in tree if entry.kind == "dataset"}
    if layout == "auto":
        layout = detect(datasets, where)
    if layout == "robomimic":
        first = next((path.split("/")[1] for path in datasets if path.startswith("data/")), "")
        prefix = f"data/{first}/"
        datasets = {
            path.removeprefix(prefix): shape for path, shape in datasets.items() if path.startswith(prefix)
        }
    return mapping_of(layout, datasets)


def _look_at_file(found: Survey, index: int, file: "h5py.File") -> None:
    mapping = found.mapping
    if mapping is None:
        return
    groups = [""]
    if mapping.episodes == "groups":
        names = (entry.path for entry in walk(file) if entry.kind == "group")
        groups = sorted(
            (
                name
                for name in names
                if fnmatchcase(name, mapping.groups) and name.count("/") == mapping.groups.count("/")
            ),
            key=lambda name: _as_counted(Path(name)),
        )
        if not groups:
            text = f"has no group `{mapping.groups}`"
            found.add(Problem("missing-key", str(found.files[index]), text, "`--validate` shows the tree"))
    for group in groups:
        _look_at_group(found, index, file[group] if group else file, group)


def _look_at_group(found: Survey, index: int, group: "h5py.Group", name: str) -> None:
    """One unit: a flat file, an episode's file, or an episode's group."""
    mapping = found.mapping
    assert mapping is not None
    where = f"{found.files[index]}:{name}" if name else f"{found.files[index]}:"
    before = len(found.problems)
    datasets: dict[str, h5py.Dataset] = {}
    for path in mapping.paths:
        got = dataset_at(group, path, where)
        if isinstance(got, Problem):
            found.add(got)
        else:
            datasets[path] = got
    _check_types(found, mapping, datasets, where)
    length = _check_lengths(found, datasets, where)
    if len(found.problems) == before and length:
        _check_values(found, mapping, datasets, where)
    if len(found.problems) == before and length:
        flags = {
            signal: values.read_flags(datasets[path], 0, length)
            for signal, path in mapping.signals.items()
            if signal in ("done", "truncated")
        }
        task = _task(group, mapping.task_attribute)
        found.episodes += cut(index, name, length, flags, flat=mapping.episodes == "flat", task=task)
        if mapping.episodes == "flat" and not any(flag.any() for flag in flags.values()):
            text = f"never fires in {length} frames, which would be one episode"
            remedy = "`--allow terminals` takes it as one; or name the right key in a --mapping file"
            found.add(Problem("terminals", f"{where}/{mapping.done or mapping.truncated}", text, remedy))


def _check_types(found: Survey, mapping: Mapping, datasets: dict[str, "h5py.Dataset"], where: str) -> None:
    for column in mapping.columns:
        width = 0
        for path in column.paths:
            if path in datasets:
                problem = values.check_column(datasets[path], f"{where}/{path}", scalar=False)
                if problem:
                    found.add(problem)
                    del datasets[path]
                else:
                    width += int(np.prod(datasets[path].shape[1:], dtype=np.int64))
        if all(path in datasets for path in column.paths):
            expected = found.widths.setdefault(column.name, width)
            if expected != width:
                text = f"`{column.name}` has {width} numbers a frame, {expected} before"
                found.add(Problem("width", where, text, "convert recordings of one robot at a time"))
    for path in mapping.signals.values():
        if path in datasets and (
            problem := values.check_column(datasets[path], f"{where}/{path}", scalar=True)
        ):
            found.add(problem)
            del datasets[path]
    for camera in mapping.cameras:
        if camera.path in datasets:
            problem = pictures.check_format(datasets[camera.path], camera, f"{where}/{camera.path}")
            if problem:
                found.add(problem)
                del datasets[camera.path]


def _check_lengths(found: Survey, datasets: dict[str, "h5py.Dataset"], where: str) -> int:
    """Frames, as most datasets have them."""
    lengths = {path: int(dataset.shape[0]) for path, dataset in datasets.items()}
    if not lengths:
        return 0
    counted = sorted(lengths.values())
    usual = max(counted, key=counted.count)
    if usual == 0:
        found.add(Problem("empty", where, "holds no frames", "leave it out"))
    for path, length in lengths.items():
        if length != usual:
            text = f"has {length} rows, the others have {usual}"
            found.add(
                Problem("length", f"{where}/{path}", text, "cut them to one length where they were written")
            )
        elif length and datasets[path].id.get_storage_size() == 0 and not _is_signal(found, path):
            text = "was created and never written: it holds no bytes"
            found.add(
                Problem("unwritten", f"{where}/{path}", text, "the recording broke off; leave the file out")
            )
    return usual


def _is_signal(found: Survey, path: str) -> bool:
    """Rewards and terminals that are all zero may never be written."""
    return found.mapping is not None and path in found.mapping.signals.values()


def _check_values(found: Survey, mapping: Mapping, datasets: dict[str, "h5py.Dataset"], where: str) -> None:
    columns = [path for column in mapping.columns for path in column.paths]
    for path in [*columns, *mapping.signals.values()]:
        flags = path in {mapping.done, mapping.truncated, mapping.success}
        try:
            for problem in values.scan(datasets[path], f"{where}/{path}", flags=flags):
                found.add(problem)
        except H5_ERRORS as error:
            found.add(_damaged(f"{where}/{path}", error))
    for camera in mapping.cameras:
        place = f"{where}/{camera.path}"
        try:
            _check_pictures(found, datasets[camera.path], camera, place)
        except (*H5_ERRORS, pictures.PictureError) as error:
            found.add(_damaged(place, error))


def _damaged(place: str, error: Exception) -> Problem:
    return Problem(
        "damaged", place, f"cannot be read: {reason(error)}", "copy the file again, or leave it out"
    )


def _check_pictures(found: Survey, dataset: "h5py.Dataset", camera: Camera, place: str) -> None:
    """Size, and a few pictures: are they pictures, and do they move?"""
    height, width = pictures.size_of(dataset, camera)
    known = {size.camera.name: size for size in found.cameras}
    if camera.name not in known:
        found.cameras.append(CameraSize(camera, height, width))
    elif (known[camera.name].height, known[camera.name].width) != (height, width):
        text = (
            f"has pictures of {height}x{width}, {known[camera.name].height}x{known[camera.name].width} before"
        )
        found.add(Problem("image-size", place, text, "convert recordings of one size at a time"))
    last = int(dataset.shape[0]) - 1
    repeated = blank = 0
    starts = np.unique(np.linspace(0, max(0, last - 1), _LOOKED_AT).astype(int)) if last else np.array([0])
    for start in starts.tolist():
        pair = np.concatenate(list(pictures.blocks(dataset, camera, start, min(start + 2, last + 1))))
        blank += bool((pair[0] == pair[0, 0, 0]).all())
        repeated += len(pair) == 2 and np.array_equal(pair[0], pair[1])
    if blank == len(starts):
        text = f"all {blank} pictures looked at are of one colour"
        found.add(Problem("blank", place, text, "was the camera covered? `--allow blank` takes them"))
    elif last and repeated > len(starts) / 2:
        text = f"{repeated} of {len(starts)} pictures looked at equal the next one"
        remedy = "the camera was slower than the log, or stuck; `--allow repeated` takes them"
        found.add(Problem("repeated", place, text, remedy))


def _task(group: "h5py.Group", attribute: str | None) -> str:
    if attribute is None:
        return ""
    value: Any = group.attrs.get(attribute, group.file.attrs.get(attribute, ""))
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _check_whole(found: Survey) -> None:
    """What only all files together show."""
    mapping = found.mapping
    if mapping is None:
        return
    state, action = found.widths.get("observation.state"), found.widths.get("action")
    if mapping.same_width and state is not None and action is not None and state != action:
        text = f"joints are {state} wide, actions {action}"
        remedy = "is one of them another quantity? `--allow joint-width` takes them as they are"
        found.add(Problem("joint-width", str(found.files[0]), text, remedy))
    found.notes += _left_out(found, mapping)
    if mapping.done and mapping.episodes == "flat" and found.episodes and found.episodes[-1].open_end:
        found.notes.append(
            f"the last {found.episodes[-1].length} frames end without a terminal: marked `next.truncated`"
        )


def _left_out(found: Survey, mapping: Mapping) -> Iterator[str]:
    """Datasets of the first file that nothing takes."""
    taken = set(mapping.paths)
    names: dict[str, None] = {}
    for entry in found.trees[0] if found.trees else []:
        if entry.kind != "dataset":
            continue
        path = entry.path
        if mapping.episodes == "groups":
            depth = mapping.groups.count("/") + 1
            path = "/".join(path.split("/")[depth:])
        if path and path not in taken and not path.startswith("next_obs/"):
            names[path] = None
    if names:
        listed = list(names)
        more = ", …" if len(listed) > 10 else ""
        yield f"left out: {', '.join(listed[:10])}{more} (--mapping takes them in)"
