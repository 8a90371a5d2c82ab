# SPDX-License-Identifier: Apache-2.0
"""The requirements of a policy that is in memory, with its processors, as `lerobot-train` holds them."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from lerobot_ext.hub.history import TrainingHistory
from lerobot_ext.hub.providers import Package, describe_distribution, find_packages
from lerobot_ext.hub.requirements import Requirements, python_version

LEROBOT = "lerobot"


def describe(
    policy: Any,
    pipelines: list[Any],
    cfg: Any = None,
    dataset_meta: Any = None,
    step: int | None = None,
    history: TrainingHistory | None = None,
) -> Requirements:
    """What a policy and its processors need, and the facts of their training.

    Args:
        policy (`PreTrainedPolicy`): The policy, also one with PEFT adapters around it.
        pipelines (`list[DataProcessorPipeline]`): Its pre- and postprocessor.
        cfg (`TrainPipelineConfig`, *optional*): How it was trained.
        dataset_meta (`LeRobotDatasetMetadata`, *optional*): On what.
        step (`int`, *optional*): At which step it is.
        history (`TrainingHistory`, *optional*): The course of the training.
    """
    config = policy.config
    packages, unpackaged = find_packages(parts_of(policy, pipelines))
    known = {package.name: package for package in packages}
    if LEROBOT not in known:
        known[LEROBOT] = describe_distribution(LEROBOT)
    known[LEROBOT] = _with_extra(known[LEROBOT], str(config.type))
    training = training_facts(cfg, dataset_meta, step) if cfg is not None else {}
    seen = history.until(step) if history is not None and step is not None else history
    return Requirements(
        policy=str(config.type),
        packages=tuple(known[name] for name in sorted(known)),
        unpackaged=tuple(unpackaged),
        python=python_version(),
        lerobot=metadata.version(LEROBOT),
        training=training,
        history=seen.to_json() if seen is not None else {},
    )


def parts_of(policy: Any, pipelines: list[Any]) -> dict[str, str]:
    """The module of each class that has to be there to load a checkpoint, by what it is."""
    adapted = hasattr(policy, "peft_config")  # PEFT's wrapper forwards attributes, not its class
    owner = policy.base_model.model if adapted else policy
    parts = {
        f"policy {policy.config.type}": type(owner).__module__,
        f"config {policy.config.type}": type(policy.config).__module__,
    }
    if adapted:
        parts["adapters"] = type(policy).__module__
    for pipeline in pipelines:
        for step in pipeline.steps:
            kind = type(step)
            name = getattr(kind, "_registry_name", None) or f"{kind.__module__}.{kind.__name__}"
            parts[f"step {name}"] = kind.__module__
    return {part: _importable(module) for part, module in parts.items()}


def training_facts(cfg: Any, dataset_meta: Any = None, step: int | None = None) -> dict[str, Any]:
    """Plain facts of a training; what is not known is left out.

    Args:
        cfg (`TrainPipelineConfig`): How it was trained.
        dataset_meta (`LeRobotDatasetMetadata`, *optional*): On what; its name alone is known without.
        step (`int`, *optional*): Steps done; the planned ones count otherwise.
    """
    policy, optimizer = cfg.policy, cfg.optimizer
    facts: dict[str, Any] = {
        "dataset": _dataset_facts(cfg.dataset, dataset_meta),
        "steps": step if step is not None else cfg.steps,
        "batch_size": cfg.batch_size,
        "seed": cfg.seed,
        "optimizer": getattr(optimizer, "type", None),
        "learning_rate": getattr(optimizer, "lr", None),
        "base_model": _base_model(policy),
        "tags": list(getattr(policy, "tags", None) or []),
        "license": getattr(policy, "license", None),
    }
    if cfg.env is not None:
        facts["environment"] = {"type": cfg.env.type, "task": getattr(cfg.env, "task", None)}
        packages, _ = find_packages({f"env {cfg.env.type}": type(cfg.env).__module__})
        facts["environment"]["packages"] = [package.to_json() for package in packages]
    return {key: value for key, value in facts.items() if value not in (None, [])}


def _dataset_facts(dataset: Any, meta: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"repo_id": dataset.repo_id}
    chosen = getattr(dataset, "episodes", None)
    if chosen:
        facts["episodes_used"] = len(chosen)
    if meta is not None:
        facts |= {
            "episodes": int(meta.total_episodes),
            "frames": int(meta.total_frames),
            "fps": meta.fps,
            "robot_type": meta.robot_type,
            "cameras": [str(key) for key in meta.camera_keys],
            "tasks": [str(task) for task in meta.tasks.index][:20],
        }
        if mixture := getattr(meta, "mixture", None):
            # A dataset spec file (docs/mixing.md): under its own name, with its parts.
            facts |= {"repo_id": meta.repo_id, "mixture": mixture}
            robots = {part["robot_type"] for part in mixture}
            facts["robot_type"] = robots.pop() if len(robots) == 1 else None
    return {key: value for key, value in facts.items() if value is not None}


def _base_model(policy_config: Any) -> str | None:
    """The Hub repository that a policy was fine-tuned from; a folder of this machine is none."""
    path = getattr(policy_config, "pretrained_path", None)
    text = str(path) if path else ""
    if text.count("/") != 1 or text.startswith((".", "/", "~")) or Path(text).exists():
        return None
    return text


def _with_extra(package: Package, policy_type: str) -> Package:
    """LeRobot with the extra that is named like the policy, if it has one (`lerobot[smolvla]`)."""
    extras = metadata.metadata(LEROBOT).get_all("Provides-Extra") or []
    if policy_type not in extras:
        return package
    return Package(**{**package.__dict__, "extra": policy_type})


def _importable(module: str) -> str:
    """`module` as others have to import it: a script that runs as `__main__` has another name to them."""
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        return spec.name if spec is not None else module
    return module
