# SPDX-License-Identifier: Apache-2.0
"""Opens the metadata of every dataset of a spec and says what their mix is, problems included.

No frame is read. `lerobot-ext mix` shows the result; `lerobot_ext.mixing.dataset` opens it for training.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata

from lerobot_ext.mixing.features import OWN, Described, Features, merge, name_features
from lerobot_ext.mixing.sampler import shares
from lerobot_ext.mixing.spec import MixSpec, PartSpec, Problem, SpecError, load_spec

Ints = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)


@dataclass
class Part:
    """One dataset of a mix.

    Args:
        spec (`PartSpec`): What the file says of it.
        label (`str`): Its name in messages; unlike that of any other.
        meta (`LeRobotDatasetMetadata`): Its own.
        names (`dict[str, str]`): Its features: name in the mix to its own name.
        episodes (`np.ndarray`): (E,) the chosen ones, its own numbers, ascending.
        lengths (`np.ndarray`): (E,) their frames.
        task_ids (`list[int]`): Of each of its tasks the number in the mix.
    """

    spec: PartSpec
    label: str
    meta: Any
    names: dict[str, str]
    episodes: Ints
    lengths: Ints
    task_ids: list[int] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Frames of the chosen episodes."""
        return int(self.lengths.sum())

    @property
    def is_whole(self) -> bool:
        """Whether all its episodes are chosen."""
        return len(self.episodes) == int(self.meta.total_episodes)

    @property
    def features(self) -> Features:
        """By their names in the mix."""
        return {new: dict(self.meta.features[old]) for new, old in self.names.items()}


@dataclass
class Mix:
    """What a spec amounts to.

    Args:
        spec (`MixSpec`): The file's content.
        path (`Path`): The file.
        parts (`list[Part]`): Those that are there.
        features (`dict`): That all parts have.
        tasks (`list[str]`): The texts; a task's number is its place.
        problems (`list[Problem]`): What keeps it from being used.
        notes (`list[str]`): What is worth knowing.
        found (`list[dict]`): Name, episodes and frames of each part before a training chose among them.
    """

    spec: MixSpec
    path: Path
    parts: list[Part] = field(default_factory=list)
    features: Features = field(default_factory=dict)
    tasks: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Of all parts."""
        return sum(part.frames for part in self.parts)

    @property
    def explicit(self) -> tuple[float, ...]:
        """The weights of the file; those that have none count 1, they are not used then."""
        return tuple(part.spec.weight or 1.0 for part in self.parts)

    def shares(self) -> npt.NDArray[np.float64]:
        """(D,) how often each part is drawn."""
        return shares(self.spec.weights, [part.frames for part in self.parts], self.explicit)

    @property
    def robot_type(self) -> str | None:
        """The robots, joined if there are several."""
        kinds = [str(part.meta.robot_type) for part in self.parts if part.meta.robot_type]
        return "+".join(dict.fromkeys(kinds)) or None

    def checked(self) -> "Mix":
        """Itself.

        Raises:
            SpecError: It has problems.
        """
        if self.problems:
            raise SpecError(self.path, self.problems)
        return self

    def choose(self, episodes: Sequence[Sequence[int]]) -> "Mix":
        """The same mix with fewer episodes.

        Args:
            episodes (`Sequence[Sequence[int]]`): Of each part the places in its `episodes` to keep.

        Raises:
            ValueError: A part would have none.
        """
        parts = []
        for part, chosen in zip(self.parts, episodes, strict=True):
            if not len(chosen):
                raise ValueError(
                    f"dataset {part.label} of the mix {self.path} keeps no episode of {len(part.episodes)}; "
                    "take it out of the file, choose other episodes, or hold out fewer"
                )
            places = np.array(sorted(chosen), dtype=np.int64)
            parts.append(replace(part, episodes=part.episodes[places], lengths=part.lengths[places]))
        return replace(self, parts=parts)


def survey(path: Path, spec: MixSpec | None = None) -> Mix:
    """What a spec file amounts to; everything that is wrong is in `problems`.

    Args:
        path (`Path`): The file.
        spec (`MixSpec`, *optional*): Its content, if it was read already.

    Raises:
        SpecError: The file itself is wrong.
    """
    mix = Mix(spec if spec is not None else load_spec(path), path)
    for index, part_spec in enumerate(mix.spec.datasets):
        part = _open(mix, index, part_spec)
        if part is not None:
            mix.parts.append(part)
    if not mix.parts:
        if not mix.problems:
            mix.problems.append(Problem("datasets", "none of them is there", "see the notes for each"))
        return mix
    _number_tasks(mix)
    described = [
        Described(part.label, part.features, part.meta.fps, part.meta.robot_type) for part in mix.parts
    ]
    merged = merge(described, mix.spec.features, mix.spec.check_names)
    mix.problems += merged.problems
    mix.notes += merged.notes
    for label, left_out in merged.left_out.items():
        mix.notes.append(f"left out of {label}, not all have them: {', '.join(left_out)}")
    mix.features = {name: merged.features[name] for name in _ordered(merged.features)}
    for part in mix.parts:
        part.names = {name: part.names[name] for name in mix.features if name in part.names}
        mix.found.append(
            {"repo_id": part.spec.repo_id, "episodes": len(part.episodes), "frames": part.frames}
        )
    return mix


def _open(mix: Mix, index: int, spec: PartSpec) -> Part | None:
    """One part; `None` where it is not there or of no use, which is noted or a problem."""
    where = f"datasets[{index}]"
    label = _label(mix, index)
    if spec.root is not None and not (Path(spec.root) / "meta").is_dir():
        _missing(mix, f"{where}.root", label, f"{spec.root} is no folder of a dataset", "correct it")
        return None
    try:
        meta = LeRobotDatasetMetadata(spec.repo_id, root=spec.root, revision=spec.revision)
    except Exception as error:  # noqa: BLE001 - another's dataset may fail in any way; told with the rest
        said = (str(error).strip().splitlines() or ["no reason given"])[0]
        remedy = "correct `repo_id`, give its folder as `root`, or download it"
        _missing(mix, f"{where}.repo_id", label, f"cannot be opened ({type(error).__name__}: {said})", remedy)
        return None
    if not meta.total_episodes or meta.episodes is None or meta.tasks is None:
        _missing(mix, f"{where}.repo_id", label, "has no episode", "record some, or take it out")
        return None
    lengths = np.asarray(meta.episodes["length"], dtype=np.int64)
    episodes = np.asarray(spec.episodes if spec.episodes is not None else range(len(lengths)), dtype=np.int64)
    beyond = episodes[episodes >= len(lengths)]
    if len(beyond):
        what = f"{label} has episodes 0 to {len(lengths) - 1}, not {', '.join(map(str, beyond[:5]))}"
        mix.problems.append(Problem(f"{where}.episodes", what, "choose among those"))
        episodes = episodes[episodes < len(lengths)]
    names, problems = name_features(meta.features, spec, where)
    mix.problems += problems
    return Part(spec, label, meta, names, episodes, lengths[episodes])


def _missing(mix: Mix, where: str, label: str, what: str, remedy: str) -> None:
    """A dataset that cannot be used: a problem, or a note if the file says to go on without."""
    if mix.spec.on_missing == "skip":
        mix.notes.append(f"{label} is left out: {what}")
        logger.warning("lerobot_ext: dataset %s of the mix %s is left out: %s", label, mix.path, what)
        return
    mix.problems.append(
        Problem(where, f"{label}: {what}", f"{remedy}; `on_missing: skip` goes on without it")
    )


def _label(mix: Mix, index: int) -> str:
    """The dataset's name, with a number where the file has it more than once."""
    names = [part.repo_id for part in mix.spec.datasets]
    name = names[index]
    return name if names.count(name) == 1 else f"{name}#{names[:index].count(name) + 1}"


def _number_tasks(mix: Mix) -> None:
    """One table of tasks for all: the same text is the same task."""
    numbers: dict[str, int] = {}
    for part in mix.parts:
        # LeRobot takes a frame's task by its place in the table.
        for text in map(str, part.meta.tasks.index):
            text = part.spec.task if part.spec.task is not None else f"{part.spec.task_prefix or ''}{text}"
            part.task_ids.append(numbers.setdefault(text, len(numbers)))
    mix.tasks = list(numbers)


def _ordered(features: Features) -> list[str]:
    """LeRobot's own columns last, as in every dataset."""
    return [name for name in features if name not in OWN] + [name for name in OWN if name in features]
