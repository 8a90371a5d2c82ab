# SPDX-License-Identifier: Apache-2.0
"""Reads a dataset spec file: which datasets are mixed, how often each is drawn, what is renamed or dropped.

Everything that is wrong with a file is collected and reported at once, each with its place, the value and a
remedy. Nothing here imports LeRobot.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

SUFFIXES: Final = (".yaml", ".yml", ".json")
WEIGHTS: Final = ("by_frames", "by_dataset", "explicit")
FEATURES: Final = ("exact", "intersection")
ON_MISSING: Final = ("error", "skip")
_RANGE = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a spec from being used.

    Args:
        where (`str`): The key in the file or the feature: `datasets[1].weight`.
        what (`str`): What is wrong, with the value.
        remedy (`str`): What to do.
    """

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"`{self.where}`: {self.what}. Remedy: {self.remedy}"


class SpecError(ValueError):
    """A dataset spec that cannot be used; all its problems are in `problems` and in the message."""

    def __init__(self, path: Path | str, problems: Iterable[Problem]) -> None:
        self.path = str(path)
        self.problems = list(problems)
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        count = len(self.problems)
        super().__init__(f"{path}: {count} problem{'s' if count != 1 else ''} in this dataset spec:{lines}")


@dataclass(frozen=True)
class PartSpec:
    """One dataset of a mix.

    Args:
        repo_id (`str`): Its name, below `$HF_LEROBOT_HOME` or on the Hub.
        root (`str`, *optional*): Its folder; in a file relative to that file, here absolute.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        episodes (`tuple[int, ...]`, *optional*): Which episodes to use, all by default; sorted.
        weight (`float`, *optional*): Relative share of the draws, with `weights: explicit`.
        task (`str`, *optional*): Replaces the text of every task.
        task_prefix (`str`, *optional*): Goes before the text of every task.
        rename (`Mapping[str, str]`, *optional*): Patterns of feature names to new names.
        drop (`tuple[str, ...]`, *optional*): Patterns of features to leave out, after renaming.
        loss_weight (`float`, *optional*): Goes into each item as `observation.loss_weight`.
    """

    repo_id: str
    root: str | None = None
    revision: str | None = None
    episodes: tuple[int, ...] | None = None
    weight: float | None = None
    task: str | None = None
    task_prefix: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    loss_weight: float | None = None


@dataclass(frozen=True)
class MixSpec:
    """A whole spec file.

    Args:
        datasets (`tuple[PartSpec, ...]`): At least one.
        name (`str`, *optional*, defaults to `"mix"`): What the mix is called in logs and cards.
        weights (`str`, *optional*, defaults to `"by_frames"`): `by_frames`, `by_dataset` or `explicit`.
        epoch_size (`int`, *optional*): Draws of an epoch; as many as there are frames by default.
        features (`str`, *optional*, defaults to `"exact"`): `exact`, or `intersection`: keep what all have.
        check_names (`bool`, *optional*, defaults to `True`): Whether joints must have the same names.
        on_missing (`str`, *optional*, defaults to `"error"`): Or `skip` a dataset that is not there.
        seed (`int`, *optional*): Of the order of draws; that of the training by default.
        resolved (`Mapping`, *optional*): What we note in the copy beside a checkpoint; not read as settings.
    """

    datasets: tuple[PartSpec, ...]
    name: str = "mix"
    weights: str = "by_frames"
    epoch_size: int | None = None
    features: str = "exact"
    check_names: bool = True
    on_missing: str = "error"
    seed: int | None = None
    resolved: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The spec as a file would have it; what is at its default is left out."""
        datasets = [
            {key: value for key, value in asdict(part).items() if value not in (None, {}, ())}
            for part in self.datasets
        ]
        whole = asdict(self) | {"datasets": datasets}
        return {key: value for key, value in whole.items() if value not in (None, {})}


def is_spec_path(text: object) -> bool:
    """Whether a `--dataset.repo_id` names a spec file rather than a dataset."""
    return isinstance(text, str) and text.lower().endswith(SUFFIXES) and not Path(text).is_dir()


def load_spec(path: Path) -> MixSpec:
    """Read and check a spec file.

    Raises:
        SpecError: It is not there, no YAML or JSON, or says something that cannot be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = "name an existing file, or write one with `lerobot-ext mix FILE --init DATASET…`"
        raise SpecError(path, [Problem(path.name, f"cannot be read: {error}", remedy)]) from None
    try:
        raw = _parse(text, path.suffix.lower())
    except ValueError as error:
        said = " ".join(str(error).split())
        raise SpecError(path, [Problem(path.name, f"cannot be parsed: {said}", "mend that line")]) from None
    return parse_spec(raw, path)


def parse_spec(raw: Any, path: Path) -> MixSpec:
    """Check what a spec file says.

    Args:
        raw (`Any`): The parsed file.
        path (`Path`): Where it is; relative folders are relative to it, and the mix is named after it.

    Raises:
        SpecError: With all problems.
    """
    top = _Section("", raw, _TOP, "a mapping with `datasets`")
    entries = top.take("datasets", _is_list, "a list of datasets", default=[])
    if not entries and not top.problems:
        top.problem("datasets", "names no dataset", "list at least one: `datasets: [{repo_id: user/name}]`")
    weights = top.choice("weights", WEIGHTS, None)
    parts = []
    for index, entry in enumerate(entries):
        section = _Section(f"datasets[{index}]", entry, _PART, "a mapping with `repo_id`")
        parts.append(_parse_part(section, path.parent, weights))
        top.problems += section.problems
    if weights is None:
        weights = "explicit" if any(part.weight is not None for part in parts) else "by_frames"
    if weights == "explicit":
        _check_explicit(top, parts)
    spec = MixSpec(
        datasets=tuple(parts),
        name=top.take("name", _is_text, "a text that is not empty", default=path.stem),
        weights=weights,
        epoch_size=top.take("epoch_size", _is_positive_int, "a whole number of draws, 1 or more"),
        features=top.choice("features", FEATURES, "exact") or "exact",
        check_names=top.take("check_names", _is_bool, "true or false", default=True),
        on_missing=top.choice("on_missing", ON_MISSING, "error") or "error",
        seed=top.take("seed", _is_whole, "a whole number, 0 or more"),
        resolved=top.take("resolved", _is_mapping, "what lerobot_ext wrote there", default={}),
    )
    if top.problems:
        raise SpecError(path, top.problems)
    return spec


def _parse_part(section: "_Section", folder: Path, weights: str | None) -> PartSpec:
    root = section.take("root", _is_text, "a folder")
    part = PartSpec(
        repo_id=section.take("repo_id", _is_text, "a dataset's name, `user/name`", default=""),
        root=None if root is None else str((folder / Path(root).expanduser()).resolve()),
        revision=section.take("revision", _is_text, "a branch, tag or commit"),
        episodes=_episodes(section),
        weight=section.take("weight", _is_positive, "a number above 0"),
        task=section.take("task", _is_text, "a text that is not empty"),
        task_prefix=section.take("task_prefix", _is_text, "a text that is not empty"),
        rename=section.take("rename", _is_texts_to_texts, "a mapping of names to new names", default={}),
        drop=tuple(section.take("drop", _is_texts, "a list of feature names", default=[])),
        loss_weight=section.take("loss_weight", _is_not_negative, "a number, 0 or more"),
    )
    if section.raw.get("repo_id") is None and not section.is_wrong:
        section.problem("repo_id", "is missing", "say which dataset: `repo_id: user/name`")
    if part.task is not None and part.task_prefix is not None:
        section.problem("task_prefix", "is given beside `task`, which replaces the text", "keep one of them")
    if part.weight is not None and weights in ("by_frames", "by_dataset"):
        section.problem(
            "weight", f"is {part.weight:g}, but `weights` is {weights}", "drop it, or say `weights: explicit`"
        )
    return part


def _check_explicit(top: "_Section", parts: list[PartSpec]) -> None:
    for index, part in enumerate(parts):
        where = f"datasets[{index}].weight"
        if part.weight is None and not any(problem.where == where for problem in top.problems):
            top.problems.append(
                Problem(where, "is missing, and other datasets have one", "give every dataset a weight")
            )


def _episodes(section: "_Section") -> tuple[int, ...] | None:
    """The chosen episodes: numbers, or texts `"0:40"` (the end is not included), or a list of both."""
    given = section.raw.get("episodes")
    if given is None:
        return None
    wanted = 'numbers or ranges such as [0, 1, "10:20"] (the end of a range is not included)'
    found: list[int] = []
    for item in given if isinstance(given, list) else [given]:
        match = _RANGE.fullmatch(item) if isinstance(item, str) else None
        if _is_whole(item):
            found.append(item)
        elif match and int(match[1]) < int(match[2]) <= 10**7:
            found += range(int(match[1]), int(match[2]))
        else:
            section.problem("episodes", f"has {item!r}", f"list {wanted}")
            return None
    twice = sorted({number for number in found if found.count(number) > 1}) if len(found) < 10_000 else []
    if twice:
        section.problem("episodes", f"names {twice[:5]} twice", "name each episode once; a `weight` repeats")
    if not found:
        section.problem("episodes", "is empty", f"list {wanted}, or leave it out to use all")
    return tuple(sorted(set(found)))


class _Section:
    """One mapping of the file: reads its keys and collects what is wrong."""

    def __init__(self, where: str, raw: Any, known: tuple[str, ...], expected: str) -> None:
        self.where = where
        self.problems: list[Problem] = []
        self.is_wrong = not isinstance(raw, Mapping)
        self.raw: Mapping[str, Any] = {} if self.is_wrong else raw
        if self.is_wrong:
            self.problems.append(Problem(where or "file", f"is {_shown(raw)}", f"make it {expected}"))
        for key in self.raw:
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                remedy = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
                self.problem(str(key), "is an unknown key", remedy)

    def problem(self, key: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(f"{self.where}.{key}" if self.where else key, what, remedy))

    def take(self, key: str, fits: Callable[[Any], bool], expected: str, default: Any = None) -> Any:
        value = self.raw.get(key)
        if value is None:
            return default
        if not fits(value):
            self.problem(key, f"is {_shown(value)}", f"make it {expected}")
            return default
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str | None) -> str | None:
        value = self.raw.get(key)
        if value is None or value in choices:
            return value or default
        near = get_close_matches(str(value), choices, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        self.problem(key, f"is {_shown(value)}", f"{hint}known are {', '.join(choices)}")
        return default


_TOP: Final = (
    "datasets",
    "name",
    "weights",
    "epoch_size",
    "features",
    "check_names",
    "on_missing",
    "seed",
    "resolved",
)
_PART: Final = (
    "repo_id",
    "root",
    "revision",
    "episodes",
    "weight",
    "task",
    "task_prefix",
    "rename",
    "drop",
    "loss_weight",
)


def _parse(text: str, suffix: str) -> Any:
    """The file's content; a key that is there twice is an error.

    Raises:
        ValueError: It is no YAML, or no JSON.
    """
    if suffix == ".json":
        return json.loads(text, object_pairs_hook=_without_twice)
    # Imported here: the commands' modules must stay cheap to import.
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        loader.flatten_mapping(node)
        return _without_twice(loader.construct_pairs(node, deep=True))

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, TypeError) as error:  # TypeError: a mapping as key
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _without_twice(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        found[key] = value
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_texts_to_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value)) and all(map(_is_text, value.values()))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_positive_int(value: Any) -> bool:
    return _is_whole(value) and value > 0


def _is_not_negative(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_positive(value: Any) -> bool:
    return _is_not_negative(value) and value > 0
