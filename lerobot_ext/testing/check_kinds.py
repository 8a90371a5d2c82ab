# SPDX-License-Identifier: Apache-2.0
"""The kinds of things `lerobot-ext check` has contracts for. Cheap to import."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lerobot_ext.testing.contract import Contract


@dataclass(frozen=True)
class Kind:
    """One kind of registered thing.

    Args:
        name (`str`): As `lerobot-ext plugins` lists it: `robot`, `step`.
        option (`str`): The option that names one: `--robot.type`.
        contract (`str`): Name of its contract in `lerobot_ext.testing`.
        stock (`tuple[str, ...]`): What a stock command line has imported when it looks for plugins, as far as
            this kind is concerned: LeRobot's own choices are registered by it.
        registry (`tuple[str, str]`): Module and class of LeRobot's registry.
    """

    name: str
    option: str
    contract: str
    stock: tuple[str, ...]
    registry: tuple[str, str]


_DEVICES = ("lerobot.scripts.lerobot_record",)
_LEARNING = ("lerobot.policies", "lerobot.envs")

KINDS = (
    Kind(
        "policy",
        "--policy.type",
        "PolicyContract",
        _LEARNING,
        ("lerobot.configs.policies", "PreTrainedConfig"),
    ),
    Kind("robot", "--robot.type", "RobotContract", _DEVICES, ("lerobot.robots.config", "RobotConfig")),
    Kind(
        "teleoperator",
        "--teleop.type",
        "TeleoperatorContract",
        _DEVICES,
        ("lerobot.teleoperators.config", "TeleoperatorConfig"),
    ),
    Kind("camera", "--camera.type", "CameraContract", _DEVICES, ("lerobot.cameras.configs", "CameraConfig")),
    Kind("env", "--env.type", "EnvContract", _LEARNING, ("lerobot.envs.configs", "EnvConfig")),
    Kind(
        "step",
        "--step",
        "ProcessorStepContract",
        (*_LEARNING, "lerobot.processor"),
        ("lerobot.processor.pipeline", "ProcessorStepRegistry"),
    ),
    Kind("distribution", "DIST", "DiscoveryContract", _LEARNING, ("", "")),
)
BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}


def contract_class(kind: Kind) -> "type[Contract]":
    """The contract for things of this kind."""
    import lerobot_ext.testing

    found: type[Contract] = getattr(lerobot_ext.testing, kind.contract)
    return found


def has_contract(kind: Kind) -> bool:
    """Whether this version of the kit has a contract for things of this kind."""
    import lerobot_ext.testing

    try:
        return hasattr(lerobot_ext.testing, kind.contract)
    except ModuleNotFoundError:
        return False


def registered_class(kind: Kind, name: str) -> Any:
    """The class registered under `name`, or `None`; for the report only."""
    from importlib import import_module

    module, registry_name = kind.registry
    if not module:
        return None
    registry = getattr(import_module(module), registry_name)
    if hasattr(registry, "get_known_choices"):
        return registry.get_known_choices().get(name)
    return registry.get(name) if name in registry.list() else None
