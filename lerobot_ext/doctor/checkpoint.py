# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor --policy.path=…`: whether a checkpoint is whole and works here.

Files are read here; LeRobot, its plugins and the policy's own code run in a child process
(`checkpoint_child`).
"""

import json
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor.checkpoint_loading import CONFIG, WEIGHTS
from lerobot_ext.doctor.child import Answer, one_line
from lerobot_ext.doctor.extension import DoctorCheck
from lerobot_ext.doctor.findings import Finding, Fix, Section, note, problem, problems_first

if TYPE_CHECKING:
    from lerobot_ext.hub.providers import Package

_TIMEOUT_S: Final = 600.0
ADAPTER: Final = "adapter_model.safetensors"
PACKAGES: Final = "lerobot_ext.json"
PIPELINES: Final = {"pre": "policy_preprocessor.json", "post": "policy_postprocessor.json"}
# Stock command lines override these by name and fail when one is not there. By pipeline: the step, its class
# (an unregistered step goes by that), and who asks for it.
OVERRIDES: Final = {
    "pre": {
        "device_processor": "lerobot-eval, lerobot-rollout and lerobot-train",
        "rename_observations_processor": "lerobot-eval, lerobot-rollout and lerobot-train",
        "normalizer_processor": "lerobot-train, to resume or fine-tune,",
    },
    "post": {"unnormalizer_processor": "lerobot-train, to resume or fine-tune,"},
}
# Names of the buffers that policies before LeRobot 0.4 kept their statistics in.
LEGACY: Final = (
    "normalize_inputs.",
    "normalize_targets.",
    "unnormalize_outputs.",
    "unnormalize_targets.",
    "input_normalizer.",
    "output_normalizer.",
    "normalize.",
    "unnormalize.",
)

AskChild = Callable[[Path], Answer]


@dataclass
class Checkpoint:
    """What the files of a checkpoint say.

    Args:
        folder (`Path`): Where it is.
        name (`str`): How the user named it.
        config (`dict`): `config.json`.
        pipelines (`dict[str, dict]`): By `pre` and `post`, those that can be read.
        tensors (`dict[str, tuple]`): Shapes of the weights by name; empty when they cannot be read.
        packages (`list[Package]`): What `lerobot_ext.json` names, if it is there.
    """

    folder: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    packages: "list[Package]" = field(default_factory=list)

    @property
    def type(self) -> str:
        """The policy's type."""
        return str(self.config.get("type", ""))

    @property
    def is_legacy(self) -> bool:
        """Whether it is of before the processors: statistics among the weights, no pipelines."""
        kept_inside = any(name.startswith(LEGACY) for name in self.tensors)
        return kept_inside and not any((self.folder / file).exists() for file in PIPELINES.values())

    def steps(self, pipeline: str) -> list[dict[str, Any]]:
        """The steps of one pipeline, as saved; empty when it cannot be read."""
        return list(self.pipelines.get(pipeline, {}).get("steps", []))


def _configure(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a checkpoint",
        "example: lerobot-ext doctor --policy.path=outputs/lift/checkpoints/last/pretrained_model",
    )
    group.add_argument(
        "--policy.path", metavar="DIR", help="folder, or user/repo if it was downloaded before"
    )
    group.add_argument(
        "--policy.pretrained_revision", metavar="REV", help="branch, tag or commit of user/repo"
    )
    group.add_argument(
        "--policy.type", metavar="TYPE", help="with --dataset.repo_id: would it train this policy"
    )


def _examine(args: Namespace) -> list[Section]:
    from lerobot_ext.cli.look import console

    name = getattr(args, "policy.path")
    folder = find_checkpoint(name, getattr(args, "policy.pretrained_revision"))
    with console(stderr=True).status(
        "Reading the checkpoint, and building its policy in a process of its own …"
    ):
        given = Path(name).expanduser()
        return [examine(folder, str(folder) if given.is_dir() and given != folder else name)]


def find_checkpoint(name: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint that is given by its path or its repo id; nothing is downloaded.

    The folder of a run means its last checkpoint.

    Raises:
        CommandError: There is none here; the remedy says where it may be, or how to download it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        from lerobot_ext.hub import checkpoint

        try:
            return checkpoint.find_checkpoint(folder)
        except checkpoint.CheckpointError:
            return folder  # what is there is examined all the same
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CommandError(f"--policy.path={name}: there is no such folder", "give a folder, or user/repo")
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, CONFIG, revision=revision)
    if not isinstance(cached, str):
        more = f" --revision {revision}" if revision else ""
        raise CommandError(
            f"--policy.path={name}: neither a folder nor in the cache of the Hub",
            f"`hf download {name}{more}`",
        )
    return Path(cached).parent


def ask_child(folder: Path) -> Answer:
    """Have LeRobot read the checkpoint, in a process of its own."""
    from lerobot_ext.doctor.child import ask

    return ask("lerobot_ext.doctor.checkpoint_child", [str(folder)], _TIMEOUT_S)


def examine(folder: Path, name: str = "", ask: AskChild = ask_child) -> Section:
    """The section about a checkpoint; nothing is changed.

    Args:
        folder (`Path`): Where `config.json` is.
        name (`str`, *optional*): How the user named it; the folder by default.
        ask (`Callable`, *optional*): Asks the child; tests ask in their own process.
    """
    from lerobot_ext.doctor import checkpoint_loading, checkpoint_stats, legacy

    found = Checkpoint(folder, name or str(folder))
    findings = [*_read_packages(found), *_read_config(found)]
    if not found.config:
        return Section("checkpoint", found.name, findings)
    findings += _read_weights(found)
    fixes: list[Fix] = []
    if found.is_legacy:
        findings.append(_legacy(found))
        fixes.append(legacy.migration(found))
    else:
        findings += _read_pipelines(found)
        findings += checkpoint_stats.about_stats(found)
        fixes.append(legacy.renaming(found))
    told = ask(folder)
    findings += checkpoint_loading.about_loading(found, told)
    return Section(
        "checkpoint",
        found.name,
        problems_first(findings),
        facts={
            "folder": str(folder),
            "type": found.type,
            "legacy": found.is_legacy,
            "tensors": len(found.tensors),
            "steps": {key: [_step_name(step) for step in found.steps(key)] for key in PIPELINES},
            "compared": told.value.get("compared", ""),
        },
        lines=_lines(found, told),
        fixes=fixes,
    )


def _lines(found: Checkpoint, told: Answer) -> list[str]:
    steps = [f"{key}: {', '.join(_step_name(step) for step in found.steps(key))}" for key in found.pipelines]
    compared = told.value.get("compared", "")
    weights = f"{len(found.tensors)} tensors" + (f", {compared}" if compared else "")
    return [f"{found.type or '?'}, {weights}", *steps]


# --- the files


def read_json(path: Path) -> tuple[dict[str, Any], str]:
    """An object of a JSON file, and why it cannot be read (empty when it can)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, "is missing"
    except (OSError, ValueError) as error:
        return {}, f"cannot be read: {one_line(error, 120)}"
    return (value, "") if isinstance(value, dict) else ({}, f"holds {type(value).__name__}, not an object")


def _read_packages(found: Checkpoint) -> Iterator[Finding]:
    from lerobot_ext.hub.requirements import RequirementsError, install_line, read_requirements, shortfalls

    try:
        found.packages = list(read_requirements(found.folder / PACKAGES).packages)
    except FileNotFoundError:
        return
    except (RequirementsError, OSError) as error:
        yield note(
            "package_list",
            PACKAGES,
            f"{PACKAGES} does not say what the checkpoint needs: {one_line(str(error), 160)}",
            "push or download the checkpoint again; nothing else depends on it",
        )
        return
    for lack in shortfalls(found.packages):
        command = f"`{install_line([lack.package])}`"
        if lack.kind == "missing":
            yield problem("package_missing", lack.package.name, str(lack), command)
        else:
            yield note(
                "package_version", lack.package.name, str(lack), f"nothing, while it works; else {command}"
            )


def _read_config(found: Checkpoint) -> Iterator[Finding]:
    found.config, why = read_json(found.folder / CONFIG)
    if not why:
        why = _malformed_config(found.config)
        found.config = {} if why else found.config
    if why:
        yield problem(
            "checkpoint_config",
            CONFIG,
            f"{CONFIG} {why}",
            "give the folder `pretrained_model` of a checkpoint of lerobot-train, or download it again",
        )


def _malformed_config(config: dict[str, Any]) -> str:
    if not isinstance(config.get("type"), str) or not config["type"]:
        return "has no `type`"
    for group in ("input_features", "output_features"):
        why = malformed_features(config.get(group))
        if why:
            return f"has `{group}` that are none: {why}"
    if not isinstance(config.get("normalization_mapping") or {}, dict):
        return "has a `normalization_mapping` that is no object"
    return ""


def _read_weights(found: Checkpoint) -> Iterator[Finding]:
    """The header of the weights; a truncated file has one too, and says so."""
    from safetensors import SafetensorError, safe_open

    file = ADAPTER if found.config.get("use_peft") else WEIGHTS
    path = found.folder / file
    try:
        with safe_open(path, framework="numpy") as tensors:
            found.tensors = {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except FileNotFoundError:
        why = "is missing"
    except (SafetensorError, OSError) as error:
        why = f"cannot be read ({path.stat().st_size} bytes): {one_line(error, 120)}"
    else:
        return
    yield problem(
        "weights",
        file,
        f"{file} {why}",
        "copy or download the checkpoint again (`hf download` goes on where it stopped); an earlier one is "
        "in "
        "`checkpoints/`",
    )


def _legacy(found: Checkpoint) -> Finding:
    where = shlex.quote(found.name)
    return problem(
        "legacy_checkpoint",
        found.name,
        "it is of before LeRobot's processors: its statistics are among the weights, and there is no "
        f"{PIPELINES['pre']}",
        f"`python -m lerobot.processor.migrate_policy_normalization --pretrained-path {where}`, or `--fix`, "
        "which also restores camera names with `_`; both write a new folder",
        fix="migrate",
    )


def _read_pipelines(found: Checkpoint) -> Iterator[Finding]:
    for key, file in PIPELINES.items():
        value, why = read_json(found.folder / file)
        if why == "is missing":
            yield _missing_pipeline(found, key, file)
            continue
        why = why or _malformed(value)
        if why:
            yield problem("processor_config", file, f"{file} {why}", "copy or download the checkpoint again")
            continue
        found.pipelines[key] = value
        yield from _about_state_files(found, key)
        yield from _about_overrides(found, key)


def _malformed(pipeline: dict[str, Any]) -> str:
    """What makes a JSON object no saved pipeline; empty if nothing."""
    steps = pipeline.get("steps")
    if not isinstance(steps, list):
        return 'is no pipeline: it has no list "steps"'
    for number, step in enumerate(steps):
        if not isinstance(step, dict) or not isinstance(step.get("registry_name", step.get("class")), str):
            return f'is no pipeline: step {number} has no text "registry_name" or "class"'
        file = step.get("state_file")
        if file is not None and (not isinstance(file, str) or Path(file).name != file):
            return f"names a file outside the checkpoint: `state_file` of step {number} is {file!r}"
        settings = step.get("config")
        if settings is not None and not isinstance(settings, dict):
            return f"is no pipeline: `config` of step {number} is no object"
        why = malformed_features((settings or {}).get("features"))
        if why:
            return f"is no pipeline: `features` of step {number}: {why}"
        if not isinstance((settings or {}).get("norm_map") or {}, dict):
            return f"is no pipeline: `norm_map` of step {number} is no object"
    return ""


def malformed_features(features: Any) -> str:
    """What makes a value no set of features, each with `type` and `shape`; empty if nothing."""
    if features is None:
        return ""
    if not isinstance(features, dict):
        return "no object"
    for name, feature in features.items():
        if not isinstance(feature, dict) or not isinstance(feature.get("type"), str):
            return f"{name!r} has no `type`"
        shape = feature.get("shape")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            return f"{name!r} has `shape` {shape!r}"
    return ""


def _missing_pipeline(found: Checkpoint, key: str, file: str) -> Finding:
    states = sorted(path.name for path in found.folder.glob(f"policy_{key}processor_step_*.safetensors"))
    left = f"; its state is still there ({states[0]})" if states else ""
    return problem(
        "processor_missing",
        file,
        f"{file} is missing{left}: nothing would "
        f"{'normalise observations' if key == 'pre' else 'turn the output into actions'}",
        "copy it from where the policy was trained (`checkpoints/*/pretrained_model`), or push again: "
        "lerobot-train pushes it after the weights, an interrupted push leaves it out",
    )


def _about_state_files(found: Checkpoint, key: str) -> Iterator[Finding]:
    from safetensors import SafetensorError, safe_open

    for step in found.steps(key):
        file = step.get("state_file")
        if not file:
            continue
        try:
            with safe_open(found.folder / file, framework="numpy") as tensors:
                tensors.keys()
        except FileNotFoundError:
            why = "is missing"
        except (SafetensorError, OSError) as error:
            why = f"cannot be read: {one_line(error, 120)}"
        else:
            continue
        yield problem(
            "step_state",
            file,
            f"the state of step {_step_name(step)}, {file}, {why}",
            "copy or download the checkpoint again; it lies beside the weights",
        )


def _about_overrides(found: Checkpoint, key: str) -> Iterator[Finding]:
    names = [_step_name(step) for step in found.steps(key)]
    for name, who in OVERRIDES[key].items():
        if name not in names:
            yield problem(
                "override_name",
                name,
                f"{PIPELINES[key]} has no step registered as {name!r}: {who} end with `KeyError: Override "
                "keys`",
                "its author must add the step, an identity if it has nothing to do; there are: "
                f"{', '.join(names)}",
            )


def _step_name(step: dict[str, Any]) -> str:
    return str(step.get("registry_name") or str(step.get("class", "?")).rpartition(".")[2])


CHECK = DoctorCheck(
    name="checkpoint",
    configure=_configure,
    applies=lambda args: getattr(args, "policy.path") is not None,
    examine=_examine,
)
