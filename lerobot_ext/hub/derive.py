# SPDX-License-Identifier: Apache-2.0
"""The requirements of a checkpoint without `lerobot_ext.json`: one that was trained without us.

`config.json` and the saved processors name a policy type and steps. What of them is installed here is looked
up in LeRobot's registries. What is not installed can only be named. No module is imported because a
checkpoint names it.
"""

import importlib
import importlib.util
import json
import logging
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from lerobot_ext.hub.checkpoint import read_config, steps_of
from lerobot_ext.hub.providers import Package, describe_distribution, find_packages
from lerobot_ext.hub.requirements import Requirements, python_version
from lerobot_ext.missing import PROVIDERS

TRAIN_CONFIG = "train_config.json"


@dataclass(frozen=True)
class Unknown:
    """A part of a checkpoint that no installed package provides.

    Args:
        part (`str`): What it is, such as `policy foo`.
        package (`str`): The package that brings it, if that is known; LeRobot's naming rule gives a guess.
        certain (`bool`): Whether `package` is known, not guessed.
    """

    part: str
    package: str
    certain: bool

    def __str__(self) -> str:
        if not self.package:
            return f"{self.part}: no installed package provides it; ask the author which one does"
        if self.certain:
            return f"{self.part}: install {self.package}"
        return (
            f"{self.part}: no installed package provides it; by LeRobot's naming rule it is in {self.package}"
        )


def derive(folder: Path) -> tuple[Requirements, list[Unknown]]:
    """What a checkpoint needs, as far as what is installed here knows.

    Args:
        folder (`Path`): The checkpoint; weights are not looked at.

    Returns:
        Its requirements, with the versions that are installed here, and the parts that are not.

    Raises:
        CheckpointError: `config.json` cannot be read.
    """
    config = read_config(folder)
    kind = str(config["type"])
    modules, unknown = _modules(kind, steps_of(folder))
    packages, unpackaged = find_packages(modules)
    if not any(package.name == "lerobot" for package in packages):
        packages.append(describe_distribution("lerobot"))
    needs = Requirements(
        policy=kind,
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        unpackaged=tuple(unpackaged),
        python=python_version(),
        lerobot=metadata.version("lerobot"),
        training=_training(folder),
    )
    return needs, unknown


def packages_of(unknown: list[Unknown]) -> list[Package]:
    """The packages that are known to bring the unknown parts, in their newest version."""
    parts: dict[str, list[str]] = {}
    for entry in unknown:
        if entry.certain:
            parts.setdefault(entry.package, []).append(entry.part)
    return [Package(name, "", tuple(provides)) for name, provides in parts.items()]


def _modules(kind: str, steps: list[dict[str, Any]]) -> tuple[dict[str, str], list[Unknown]]:
    """The module of each part that is registered here, and the parts that are not."""
    # Imported here: it takes seconds, and a checkpoint with our file never needs it.
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.processor import ProcessorStepRegistry
    from lerobot.utils.import_utils import register_third_party_plugins

    importlib.import_module("lerobot.policies")  # registers the stock ones
    register_third_party_plugins()
    modules: dict[str, str] = {}
    unknown: list[Unknown] = []
    try:
        module = PreTrainedConfig.get_choice_class(kind).__module__
    except (KeyError, ValueError):
        known = PROVIDERS.get(("--policy.type", kind))
        unknown.append(Unknown(f"policy {kind}", known or f"lerobot_policy_{kind}", known is not None))
    else:
        modules[f"policy {kind}"] = module
        import_processors(module)
    for step in steps:
        name, path = step.get("registry_name"), step.get("class")
        try:
            if name:
                modules[f"step {name}"] = ProcessorStepRegistry.get(str(name)).__module__
            elif path:
                module = str(path).rpartition(".")[0]
                if importlib.util.find_spec(module.partition(".")[0]) is None:
                    raise KeyError(module)
                modules[f"step {path}"] = module
        except (KeyError, ValueError):
            top = str(path).partition(".")[0] if path else ""
            unknown.append(Unknown(f"step {name or path}", top, certain=False))
    return modules, unknown


def import_processors(config_module: str) -> None:
    """Import the module that registers a policy's own steps, as LeRobot does when it makes a new policy."""
    try:
        importlib.import_module(config_module.replace("configuration_", "processor_"))
    except ImportError as error:
        logging.getLogger(__name__).debug("no processors beside %s: %s", config_module, error)


def _training(folder: Path) -> dict[str, Any]:
    """Facts of the training in the `train_config.json` that LeRobot leaves; what is not known is left out."""
    try:
        raw = json.loads((folder / TRAIN_CONFIG).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(raw, dict):
        return {}

    def inner(name: str) -> dict[str, Any]:
        value = raw.get(name)
        return value if isinstance(value, dict) else {}

    facts = {
        "dataset": {"repo_id": inner("dataset").get("repo_id")} if inner("dataset").get("repo_id") else None,
        "steps": raw.get("steps"),
        "batch_size": raw.get("batch_size"),
        "seed": raw.get("seed"),
        "optimizer": inner("optimizer").get("type"),
        "learning_rate": inner("optimizer").get("lr"),
        "environment": {"type": inner("env").get("type"), "task": inner("env").get("task")}
        if inner("env").get("type")
        else None,
    }
    return {key: value for key, value in facts.items() if value is not None}
