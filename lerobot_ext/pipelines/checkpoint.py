# SPDX-License-Identifier: Apache-2.0
"""Adds steps to a saved checkpoint, as if it had been trained with them; stock policies' too.

The checkpoint's own steps are not made: their entries move, and with them the files of their state, whose
names carry the index of their step. `config.json` follows the shapes, `lerobot_ext.json` the packages. The
new checkpoint is built beside the old one and has to load and to act before it takes its place.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lerobot_ext.data.durable import flush_to_disk, replacing
from lerobot_ext.hub.checkpoint import CONFIG, examine, read_config
from lerobot_ext.hub.derive import TRAIN_CONFIG, derive
from lerobot_ext.hub.providers import Package, find_packages
from lerobot_ext.hub.requirements import FILE_NAME, Requirements, read_requirements
from lerobot_ext.pipelines.build import entry_of, step_name
from lerobot_ext.pipelines.file import POLICY_SIDE, PREPROCESSOR, PipelineError
from lerobot_ext.pipelines.insertion import ExtraSteps, check_names, index_of


@dataclass
class Addition:
    """What adding steps did to a checkpoint.

    Args:
        checkpoint (`str`): Where the result is.
        placed (`dict`): By pipeline, the index of the first new step and the names of all.
        inputs (`dict`): Inputs of the policy whose shape changed: the old and the new one.
        renamed (`dict`): State files with a new name, by their old one.
        packages (`list[str]`): What is needed now and was not before.
        acted (`bool`): Whether the result was made to act; not where only adapters are saved.
    """

    checkpoint: str
    placed: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    packages: list[str] = field(default_factory=list)
    acted: bool = False


def add_steps(folder: Path, extra: ExtraSteps, out: Path | None = None, *, dry_run: bool = False) -> Addition:
    """Add steps to the pipelines of a checkpoint.

    Args:
        folder (`Path`): The checkpoint, with `config.json`.
        extra (`ExtraSteps`): The steps and their places.
        out (`Path`, *optional*): Where to put the result; the checkpoint itself is replaced otherwise.
        dry_run (`bool`): Do everything but put the result there.

    Raises:
        PipelineError: The checkpoint is not whole, or the result would not load, act, or be followed by
            LeRobot's commands. Nothing is changed then.
    """
    folder = folder.resolve()
    problems = examine(folder)
    if problems:
        raise PipelineError(f"{folder} is not whole: {problems[0]}", problems[0].remedy)
    target = (out or folder).expanduser()
    if out is not None and target.exists():
        raise PipelineError(f"{target} is there already", "name a new folder with --out")
    with _beside(target) as work:
        _copy(folder, work, link=out is None or dry_run)
        done = Addition(str(target))
        _insert(work, extra, done)
        before = _follow_shapes(work, extra, done)
        _note_packages(folder, work, extra, done)
        done.acted = _act(work, before)
        if not dry_run:
            _put(work, target)
    return done


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder on the same disk as `target`; what is left of it in the end is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.unfinished-", dir=target.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _copy(folder: Path, work: Path, *, link: bool) -> None:
    """The files of a checkpoint; the weights, which stay as they are, need not be copied."""
    for source in sorted(folder.rglob("*")):
        new = work / source.relative_to(folder)
        if source.is_dir():
            new.mkdir(parents=True, exist_ok=True)
            continue
        try:
            if not link or source.suffix != ".safetensors":
                raise OSError
            os.link(source, new)
        except OSError:
            shutil.copy2(source, new)


def _insert(work: Path, extra: ExtraSteps, done: Addition) -> None:
    """Put the entries and the state of the steps into the saved pipelines."""
    from safetensors.torch import save_file

    for key in POLICY_SIDE:
        path = work / f"{key}.json"
        saved = json.loads(path.read_bytes())
        names = [_name_of(entry) for entry in saved["steps"]]
        check_names(key, names)
        if key not in extra.entries:
            continue
        index = index_of(extra.where[key], key, names)
        steps = extra.steps[key]
        new = [entry_of(step) for step in steps]
        entries = [*saved["steps"][:index], *new, *saved["steps"][index:]]
        done.renamed |= _rename_states(work, key, entries)
        for place, (entry, step) in enumerate(zip(new, steps, strict=True), start=index):
            state = step.state_dict()
            if state:
                entry["state_file"] = _state_name(key, place, entry)
                save_file(
                    {name: tensor.contiguous() for name, tensor in state.items()}, work / entry["state_file"]
                )
        with replacing(path) as file:
            file.write_text(json.dumps({**saved, "steps": entries}, indent=2), encoding="utf-8")
        done.placed[key] = {"index": index, "steps": [step_name(step) for step in steps]}


def _rename_states(work: Path, key: str, entries: list[dict[str, Any]]) -> dict[str, str]:
    """Give each state file the name that LeRobot gives the state of a step at its index.

    Returns:
        The new names by the old ones. Last first: a file never gets the name of one that has yet to move.
    """
    renamed = {}
    for index in reversed(range(len(entries))):
        old = entries[index].get("state_file")
        if not old or not _is_numbered(old, key):
            continue
        new = _state_name(key, index, entries[index])
        if new != old:
            os.replace(work / old, work / new)
            entries[index] = {**entries[index], "state_file": new}
            renamed[old] = new
    return renamed


def _is_numbered(name: str, key: str) -> bool:
    return name.startswith(f"{key}_step_")


def _state_name(key: str, index: int, entry: dict[str, Any]) -> str:
    """The file name that LeRobot would give."""
    name = entry.get("registry_name")
    return f"{key}_step_{index}_{name}.safetensors" if name else f"{key}_step_{index}.safetensors"


def _name_of(entry: dict[str, Any]) -> str:
    return str(entry.get("registry_name") or entry.get("class"))


def _follow_shapes(work: Path, extra: ExtraSteps, done: Addition) -> dict[str, Any]:
    """Give the configurations the shapes behind the steps.

    Returns:
        The inputs' features before the steps: what the robot or the environment gives.
    """
    from lerobot.configs import FeatureType, PolicyFeature

    def features(raw: dict[str, Any]) -> dict[str, Any]:
        return {
            name: PolicyFeature(FeatureType(one["type"]), tuple(one["shape"])) for name, one in raw.items()
        }

    config = read_config(work)
    before, outputs = (
        features(config.get("input_features") or {}),
        features(config.get("output_features") or {}),
    )
    after = extra.inputs_after(before, outputs)
    extra.check_outputs(outputs)
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old is None or new is None or tuple(old.shape) != tuple(new.shape):
            done.inputs[name] = {
                "before": list(old.shape) if old else None,
                "after": list(new.shape) if new else None,
            }
    if done.inputs:
        raw = {name: {"type": one.type.value, "shape": list(one.shape)} for name, one in after.items()}
        _edit(work / CONFIG, lambda value: {**value, "input_features": raw})
        if (work / TRAIN_CONFIG).is_file():
            _edit(
                work / TRAIN_CONFIG,
                lambda value: {**value, "policy": {**value.get("policy", {}), "input_features": raw}},
            )
        _edit(work / f"{PREPROCESSOR}.json", lambda value: _with_shapes(value, raw))
    return before


def _with_shapes(pipeline: dict[str, Any], features: dict[str, Any]) -> dict[str, Any]:
    """A saved pipeline whose normaliser knows the features by these shapes."""
    for entry in pipeline["steps"]:
        known = entry.get("config", {}).get("features")
        if entry.get("registry_name") == "normalizer_processor" and isinstance(known, dict):
            entry["config"]["features"] = {**known, **{k: v for k, v in features.items() if k in known}}
    return pipeline


def _edit(path: Path, change: Any) -> None:
    value = change(json.loads(path.read_bytes()))
    with replacing(path) as new:
        new.write_text(json.dumps(value, indent=4) + "\n", encoding="utf-8")


def _note_packages(folder: Path, work: Path, extra: ExtraSteps, done: Addition) -> None:
    """Add what the new steps need to `lerobot_ext.json`; write one where there was none."""
    modules = {}
    for steps in extra.steps.values():
        for step in steps:
            name = getattr(type(step), "_registry_name", None)
            modules[f"step {name or f'{type(step).__module__}.{type(step).__name__}'}"] = type(
                step
            ).__module__
    packages, unpackaged = find_packages(modules)
    needs = read_requirements(folder / FILE_NAME) if (folder / FILE_NAME).is_file() else derive(folder)[0]
    known = {package.name: package for package in needs.packages}
    done.packages = sorted(package.name for package in packages if package.name not in known)
    for package in packages:
        old = known.get(package.name, package)
        provides = tuple(sorted({*old.provides, *package.provides}))
        known[package.name] = Package(**{**old.__dict__, "provides": provides})
    Requirements(
        **{
            **needs.__dict__,
            "packages": tuple(known[name] for name in sorted(known)),
            "unpackaged": tuple(sorted({*needs.unpackaged, *unpackaged})),
        }
    ).save(work)


def _act(work: Path, before: dict[str, Any]) -> bool:
    """Load the result as `lerobot-eval` does, and let it act once on what a robot or an environment gives.

    Raises:
        PipelineError: It does not load, or does not act.
    """
    from lerobot_ext.pipelines.acting import act_once
    from lerobot_ext.plugins import describe_error

    if not (work / "model.safetensors").is_file():
        return False
    try:
        act_once(work, before)
    except Exception as error:  # the boundary to anybody's policy and steps
        raise PipelineError(
            f"with these steps the checkpoint does not act: {describe_error(error)}",
            "nothing was changed; train with the steps instead (--policy.extra_steps)",
        ) from error
    return True


def _put(work: Path, target: Path) -> None:
    """Let the new folder take the place of the old one; the old one comes back if that fails."""
    for path in work.iterdir():
        flush_to_disk(path)
    work.chmod(0o755)
    if not target.exists():
        os.rename(work, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
    shutil.copymode(target, work)
    os.rename(target, old / "was")
    try:
        os.rename(work, target)
    except OSError:
        os.rename(old / "was", target)
        raise
    flush_to_disk(target.parent)
    shutil.rmtree(old, ignore_errors=True)
