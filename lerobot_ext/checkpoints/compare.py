# SPDX-License-Identifier: Apache-2.0
"""Finds the differences of two checkpoints, tensor by tensor, so that neither has to fit into memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor

from lerobot_ext.cli.command import CommandError
from lerobot_ext.hub.checkpoint import safetensors_fault

POLICY, TRAINING = "pretrained_model", "training_state"
CONFIG: Final = "config.json"
_OPTIMIZER: Final = "optimizer_state.safetensors"
_GROUPS: Final = "optimizer_param_groups.json"
_SUFFIXES: Final = (".safetensors", ".json")
ONLY_A, ONLY_B, SHAPE, DTYPE, VALUE = "only in A", "only in B", "shape", "dtype", "value"


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same.

    Args:
        file (`str`): Such as `pretrained_model/model.safetensors`.
        name (`str`): Of the tensor, or the path of the setting; empty for a whole file.
        kind (`str`): `only in A`, `only in B`, `shape`, `dtype` or `value`.
        a (`str`), b (`str`): What each has, in words.
        largest (`float`, *optional*): Of tensors' values, the largest difference.
        relative (`float`, *optional*): The norm of the difference to that of A.
        changed (`float`, *optional*): Share of the numbers that differ.
    """

    file: str
    name: str
    kind: str
    a: str = ""
    b: str = ""
    largest: float | None = None
    relative: float | None = None
    changed: float | None = None


@dataclass
class Comparison:
    """What was found.

    Args:
        differences (`list[Difference]`): In the order of the files.
        same (`dict[str, int]`): Tensors and settings that are the same, by file.
        faults (`dict[str, list[str]]`): What is wrong with `A` or `B` by itself.
    """

    differences: list[Difference] = field(default_factory=list)
    same: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a checkpoint that hold tensors or settings, by their place in it.

    Args:
        folder (`Path`): A step's folder (`checkpoints/000500`), its `pretrained_model`, or a run's.

    Raises:
        CommandError: There is no checkpoint.
    """
    if not folder.is_dir():
        raise CommandError(
            f"{folder} is no folder", "name the folder of a checkpoint, such as checkpoints/last"
        )
    policy = next(
        (
            place
            for place in (folder, folder / POLICY, folder / "checkpoints" / "last" / POLICY)
            if (place / CONFIG).is_file()
        ),
        None,
    )
    if policy is None:
        raise CommandError(
            f"{folder} holds no checkpoint: no {CONFIG} and no {POLICY}/{CONFIG}",
            "name the folder of a checkpoint, such as run/checkpoints/000500",
        )
    training = policy.parent / TRAINING if policy.name == POLICY else policy / TRAINING
    places = {POLICY: policy, **({TRAINING: training} if training.is_dir() else {})}
    return {
        f"{part}/{path.relative_to(place).as_posix()}": path
        for part, place in places.items()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.suffix in _SUFFIXES
    }


def compare(first: Path, second: Path, *, tolerance: float = 0.0, values: bool = True) -> Comparison:
    """Compare two checkpoints.

    Args:
        first (`Path`): A.
        second (`Path`): B.
        tolerance (`float`, *optional*): Numbers no further apart are the same; NaN is the same as NaN.
        values (`bool`, *optional*): Whether to look at numbers at all, or only at names, shapes and types.

    Raises:
        CommandError: One is no checkpoint, or a file is damaged.
    """
    a, b = files_of(first), files_of(second)
    found = Comparison(faults={"A": faults(a), "B": faults(b)})
    for name in sorted({*a, *b}):
        if name not in a or name not in b:
            found.differences.append(Difference(name, "", ONLY_A if name in a else ONLY_B))
        elif name.endswith(".json"):
            _compare_settings(name, a[name], b[name], found)
        else:
            _compare_tensors(name, a[name], b[name], found, tolerance, values=values)
    return found


def faults(files: Mapping[str, Path]) -> list[str]:
    """What does not fit together inside a checkpoint: optimizer state, its groups, the policy's weights.

    Raises:
        CommandError: A file is damaged.
    """
    state, groups = files.get(f"{TRAINING}/{_OPTIMIZER}"), files.get(f"{TRAINING}/{_GROUPS}")
    if state is None or groups is None:
        return []
    named = [number for group in _read_json(groups) for number in group.get("params", [])]
    shapes: dict[int, list[tuple[int, ...]]] = {}
    with _open(state) as file:
        for name in file.keys():  # noqa: SIM118 - no mapping, it only has this method
            words = name.split("/")
            if len(words) == 3 and words[0] == "state" and words[1].isdigit():
                shape = tuple(file.get_slice(name).get_shape())
                if shape:  # a step counter has none
                    shapes.setdefault(int(words[1]), []).append(shape)
    found = [
        f"{_OPTIMIZER} has a state of parameter {number}, which no group has"
        for number in sorted(set(shapes) - set(named))
    ]
    found += [
        f"{_OPTIMIZER}: the states of parameter {number} have shapes {sorted(set(several))}"
        for number, several in sorted(shapes.items())
        if len(set(several)) > 1
    ]
    weights = files.get(f"{POLICY}/model.safetensors")
    if weights is not None:
        with _open(weights) as file:
            known = Counter(tuple(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        needed = Counter(several[0] for several in shapes.values())
        found += [
            f"{_OPTIMIZER} has {needed[shape]} states of shape {list(shape)}, "
            f"the policy {known[shape]} tensors"
            for shape in sorted(needed)
            if needed[shape] > known[shape]
        ]
    return found


def _compare_tensors(
    name: str, first: Path, second: Path, found: Comparison, tolerance: float, *, values: bool
) -> None:
    with _open(first) as a, _open(second) as b:
        in_a, in_b = set(a.keys()), set(b.keys())
        for key in sorted(in_a | in_b):
            if key not in in_a or key not in in_b:
                file = a if key in in_a else b
                words = f"{file.get_slice(key).get_dtype()} {file.get_slice(key).get_shape()}"
                only_a = key in in_a
                found.differences.append(
                    Difference(
                        name,
                        key,
                        ONLY_A if only_a else ONLY_B,
                        words if only_a else "",
                        "" if only_a else words,
                    )
                )
                continue
            differing = list(_of_headers(name, key, a.get_slice(key), b.get_slice(key)))
            comparable = values and all(one.kind != SHAPE for one in differing)
            if comparable:
                differing += _of_values(name, key, a.get_tensor(key), b.get_tensor(key), tolerance)
            found.differences += differing
            if not differing:
                found.same[name] = found.same.get(name, 0) + 1


def _of_headers(file: str, key: str, a: Any, b: Any) -> Iterator[Difference]:
    if list(a.get_shape()) != list(b.get_shape()):
        yield Difference(file, key, SHAPE, str(list(a.get_shape())), str(list(b.get_shape())))
    if a.get_dtype() != b.get_dtype():
        yield Difference(file, key, DTYPE, str(a.get_dtype()), str(b.get_dtype()))


def _of_values(file: str, key: str, a: Tensor, b: Tensor, tolerance: float) -> Iterator[Difference]:
    if a.numel() == 0:
        return
    first, second = a.double(), b.double()
    # What is the same to the bit, infinities among it, has no difference to subtract.
    same = (first == second) | (first.isnan() & second.isnan())
    apart = torch.where(same, 0.0, (first - second).abs())
    differs = ~same & ~(apart <= tolerance)
    if not differs.any():
        return
    norm = float(first.norm())
    largest = float(apart.nan_to_num(nan=torch.inf).max())
    yield Difference(
        file,
        key,
        VALUE,
        _describe(first),
        _describe(second),
        largest=largest,
        relative=float(apart.norm()) / norm if norm > 0 else None,
        changed=float(differs.double().mean()),
    )


def _describe(tensor: Tensor) -> str:
    if tensor.numel() == 1:
        return f"{float(tensor):.6g}"
    bad = int((~tensor.isfinite()).sum())
    finite = tensor[tensor.isfinite()]
    mean = (
        f"mean {float(finite.mean()):.4g}, rms {float(finite.square().mean().sqrt()):.4g}"
        if len(finite)
        else ""
    )
    return f"{mean}, {bad} not finite".strip(", ") if bad else mean


def _compare_settings(name: str, first: Path, second: Path, found: Comparison) -> None:
    a, b = dict(_flat(_read_json(first))), dict(_flat(_read_json(second)))
    for key in sorted({*a, *b}):
        if key not in a:
            found.differences.append(Difference(name, key, ONLY_B, "", json.dumps(b[key])))
        elif key not in b:
            found.differences.append(Difference(name, key, ONLY_A, json.dumps(a[key]), ""))
        # 1, 1.0 and true are equal to Python, and are not the same setting.
        elif json.dumps(a[key]) != json.dumps(b[key]):
            found.differences.append(Difference(name, key, VALUE, json.dumps(a[key]), json.dumps(b[key])))
        else:
            found.same[name] = found.same.get(name, 0) + 1


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings by their path; a list of numbers, and what is empty, is one leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{place}[{index}]")
    else:
        yield place, value


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CommandError(f"{path} cannot be read: {error}", _REMEDY) from error


def _open(path: Path) -> Any:
    fault = safetensors_fault(path)
    if fault:
        raise CommandError(f"{path} {fault}", _REMEDY)
    return safe_open(path, "pt")


_REMEDY: Final = "`lerobot-ext doctor --policy.path=…` examines a checkpoint; take another one of the run"
