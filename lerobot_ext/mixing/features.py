# SPDX-License-Identifier: Apache-2.0
"""Renames and drops the features of each dataset of a mix, and merges what remains; mismatches by name.

Works on LeRobot's feature mappings (`{"dtype", "shape", "names", "info"}`) alone and imports nothing of it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import translate
from typing import Any, Final

from lerobot_ext.mixing.spec import PartSpec, Problem

Features = dict[str, dict[str, Any]]

OWN: Final = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""LeRobot's own columns: every dataset has them, and they keep their names."""
CAMERA: Final = ("image", "video")


@dataclass
class Described:
    """What one dataset of a mix brings.

    Args:
        label (`str`): How it is called in messages.
        features (`dict`): By the names they have in the mix.
        fps (`float`): Frames per second.
        robot_type (`str`, *optional*): As recorded.
    """

    label: str
    features: Features
    fps: float
    robot_type: str | None


@dataclass
class Merged:
    """What all datasets of a mix have in common.

    Args:
        features (`dict`): Of the mix.
        left_out (`dict[str, list[str]]`): Features a dataset has and the mix has not, by label.
        problems (`list[Problem]`): What keeps them from being mixed.
        notes (`list[str]`): What is worth knowing.
    """

    features: Features = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def name_features(
    given: Mapping[str, Any], part: PartSpec, where: str
) -> tuple[dict[str, str], list[Problem]]:
    """The names that a dataset's features have in the mix.

    Args:
        given (`Mapping`): The dataset's features.
        part (`PartSpec`): Its `rename` and `drop`.
        where (`str`): Its place in the file, for messages.

    Returns:
        New name to old name, without what is dropped; and what is wrong with `rename` and `drop`.
    """
    problems: list[Problem] = []
    own = [name for name in given if name not in OWN]
    new_names = {name: name for name in own}
    for pattern, target in part.rename.items():
        place = f"{where}.rename"
        compiled = re.compile(_groups(pattern))
        matched = [(name, found) for name in own if (found := compiled.fullmatch(name))]
        if not matched:
            problems.append(Problem(place, f"{pattern!r} matches no feature", _nearest(pattern, own)))
        for name, found in matched:
            renamed = _fill(target, found.groups())
            if renamed is None:
                remedy = "use as many `*` at most as the pattern has"
                problems.append(Problem(place, f"{target!r} has more `*` than {pattern!r}", remedy))
                break
            if renamed in OWN:
                remedy = "choose another name"
                problems.append(Problem(place, f"{renamed!r} is a column of LeRobot's own", remedy))
                break
            new_names[name] = renamed
    names: dict[str, str] = {}
    for old, new in new_names.items():
        if new in names:
            remedy = "rename them apart, or `drop` one"
            problems.append(
                Problem(f"{where}.rename", f"{names[new]!r} and {old!r} would both be {new!r}", remedy)
            )
        names[new] = old
    for pattern in part.drop:
        dropped = [name for name in names if re.fullmatch(translate(pattern), name)]
        if not dropped:
            problems.append(
                Problem(f"{where}.drop", f"{pattern!r} matches no feature", _nearest(pattern, list(names)))
            )
        for name in dropped:
            del names[name]
    return names | {name: name for name in given if name in OWN}, problems


def merge(parts: Sequence[Described], mode: str, check_names: bool = True) -> Merged:
    """Compare the features of all datasets with each other.

    Args:
        parts (`Sequence[Described]`): At least one.
        mode (`str`): `exact`: all must have the same; `intersection`: the others are left out.
        check_names (`bool`, *optional*, defaults to `True`): Whether joints must have the same names.
    """
    merged = Merged()
    everything = list(dict.fromkeys(name for part in parts for name in part.features))
    for name in everything:
        having = [part for part in parts if name in part.features]
        if len(having) < len(parts):
            _note_missing(merged, name, having, parts, mode)
            continue
        merged.problems += _mismatches(name, having, check_names)
        merged.features[name] = _common([part.features[name] for part in having])
    if not any(name not in OWN for name in merged.features) and not merged.problems:
        merged.problems.append(
            Problem("features", "the datasets have nothing in common", "use `rename` to give names to share")
        )
    rates = _grouped(parts, lambda part: part.fps)
    if len(rates) > 1:
        merged.problems.append(
            Problem("fps", f"differ: {_said(rates)}", "mix datasets of one rate; convert the others first")
        )
    robots = _grouped(parts, lambda part: part.robot_type)
    if len(robots) > 1:
        merged.notes.append(
            f"robot types differ: {_said(robots)}; joints with the same names have to mean the same"
        )
    return merged


def _note_missing(
    merged: Merged, name: str, having: list[Described], parts: Sequence[Described], mode: str
) -> None:
    """A feature that only some datasets have: left out, or a problem."""
    if mode == "intersection":
        for part in having:
            merged.left_out.setdefault(part.label, []).append(name)
        return
    kind = "camera" if having[0].features[name]["dtype"] in CAMERA else "feature"
    lacking = [part for part in parts if part not in having]
    unmatched = [other for other in lacking[0].features if other not in having[0].features]
    near = get_close_matches(name, unmatched, n=1)
    guess = f" ({lacking[0].label} has `{near[0]}`)" if near else ""
    merged.problems.append(
        Problem(
            name,
            f"{kind} is in {_labels(having)}, not in {_labels(lacking)}{guess}",
            "`rename` it where it has another name, `drop` it where it is, or say `features: intersection`",
        )
    )


def _mismatches(name: str, parts: list[Described], check_names: bool) -> list[Problem]:
    """Differing types, shapes and joint names of a feature that all have."""
    found = []
    kinds = _grouped(parts, lambda part: _kind(part.features[name]))
    leave = f"`drop` `{name}`, or `rename` it in one of them and say `features: intersection`"
    if len(kinds) > 1:
        return [Problem(name, f"types differ: {_said(kinds)}", leave)]
    shapes = _grouped(parts, lambda part: tuple(part.features[name].get("shape") or ()))
    if len(shapes) > 1:
        found.append(Problem(name, f"shapes differ: {_said(shapes)}", leave))
    elif check_names and parts[0].features[name]["dtype"] not in CAMERA:
        named = [part for part in parts if names_of(part.features[name])]
        names = _grouped(named, lambda part: tuple(names_of(part.features[name])))
        if len(names) > 1:
            found.append(Problem(name, f"names differ: {_said(names)}", _names_remedy(list(names))))
    return found


def _names_remedy(names: list[Any]) -> str:
    if len({tuple(sorted(each)) for each in names}) == 1:
        return "the order differs, so the numbers mean other joints: bring one of the datasets into the order"
    return "if they mean the same joints in the same order, say `check_names: false`"


def names_of(feature: Mapping[str, Any]) -> list[str]:
    """The names of a feature's numbers; older datasets nest them in a mapping; empty where there are none."""
    names = feature.get("names")
    if isinstance(names, Mapping):
        return [str(name) for group in names.values() if isinstance(group, (list, tuple)) for name in group]
    return [str(name) for name in names or []]


def _kind(feature: Mapping[str, Any]) -> str:
    """What items have: float32 for every float, int64 for every integer; cameras as images."""
    dtype = str(feature["dtype"])
    if dtype in CAMERA:
        # How a depth map is kept decides what its numbers mean; a picture is a picture.
        return f"depth {dtype}" if is_depth(feature) else "camera"
    for prefix, kind in (("float", "float"), ("uint", "integer"), ("int", "integer")):
        if dtype.startswith(prefix):
            return kind
    return dtype


def is_depth(feature: Mapping[str, Any]) -> bool:
    """Whether a camera gives distances."""
    info, older = feature.get("info") or {}, feature.get("video_info") or {}
    return any((info.get("is_depth_map"), info.get("video.is_depth_map"), older.get("video.is_depth_map")))


def _common(features: list[dict[str, Any]]) -> dict[str, Any]:
    """The first one's description; as a video if any is one, with joint names if any has them."""
    first = dict(features[0])
    if any(feature["dtype"] == "video" for feature in features):
        first["dtype"] = "video"
    if not names_of(first):
        first["names"] = next((feature["names"] for feature in features if names_of(feature)), None)
    return first


def _groups(pattern: str) -> str:
    """A glob as a regular expression whose groups are what each `*` matched."""
    return "".join("(.*)" if sign == "*" else "." if sign == "?" else re.escape(sign) for sign in pattern)


def _fill(target: str, groups: tuple[str, ...]) -> str | None:
    """`target` with its `*` replaced in order; `None` if there are more than groups."""
    pieces = target.split("*")
    if len(pieces) - 1 > len(groups):
        return None
    return pieces[0] + "".join(group + piece for group, piece in zip(groups, pieces[1:], strict=False))


def _nearest(pattern: str, names: list[str]) -> str:
    near = get_close_matches(pattern, names, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"it has {', '.join(names) or 'none of its own'}"


def _grouped(parts: Sequence[Described], key: Any) -> dict[Any, list[Described]]:
    groups: dict[Any, list[Described]] = {}
    for part in parts:
        groups.setdefault(key(part), []).append(part)
    return groups


def _said(groups: Mapping[Any, list[Described]]) -> str:
    return "; ".join(f"{_value(value)} in {_labels(parts)}" for value, parts in groups.items())


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return "none" if value is None else str(value)


def _labels(parts: Sequence[Described]) -> str:
    return ", ".join(part.label for part in parts)
