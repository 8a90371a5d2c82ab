# SPDX-License-Identifier: Apache-2.0
"""Runs LeRobot's discovery and prints, as JSON, what one distribution did to LeRobot.

It is run as text by the interpreter of an environment in which `lerobot_ext` need not be installed, so it
imports nothing of it. Arguments: the distribution's package, and `first` to import that before LeRobot.
"""

import functools
import importlib
import json
import logging
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

GROUP = "lerobot_ext.plugins"
STOCK = ("lerobot.scripts.lerobot_record", "lerobot.scripts.lerobot_train")
REGISTRIES = {
    "camera": ("lerobot.cameras.configs", "CameraConfig"),
    "env": ("lerobot.envs.configs", "EnvConfig"),
    "policy": ("lerobot.configs.policies", "PreTrainedConfig"),
    "robot": ("lerobot.robots.config", "RobotConfig"),
    "teleoperator": ("lerobot.teleoperators.config", "TeleoperatorConfig"),
}


def choices() -> dict[str, str]:
    """Every registered name and the module of its class."""
    found = {}
    for kind, (module, name) in REGISTRIES.items():
        base: Any = getattr(sys.modules.get(module), name, None)
        for choice, cls in base.get_known_choices().items() if base is not None else ():
            found[f"{kind} {choice}"] = cls.__module__
    pipeline = sys.modules.get("lerobot.processor.pipeline")
    steps: Any = getattr(pipeline, "ProcessorStepRegistry", None)
    for name in steps.list() if steps is not None else ():
        found[f"step {name}"] = steps.get(name).__module__
    return found


def attempt(do: Callable[[], object]) -> str:
    """Do something of the plugin's; what it raised in one line, else an empty text."""
    try:
        do()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the plugin boundary
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


class Errors(logging.Handler):
    """Keeps what LeRobot and plugins log as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        error = record.exc_info[1] if record.exc_info else None
        cause = f": {type(error).__name__}: {error}" if error else ""
        self.found.append(" ".join(f"{record.getMessage()}{cause}".split()))


def entry_points(package: str) -> list[metadata.EntryPoint]:
    """Those of our group that name something in the package."""
    found = {(e.name, e.value): e for e in metadata.entry_points(group=GROUP)}
    return [e for e in found.values() if e.module.partition(".")[0] == package]


def call(entry_point: metadata.EntryPoint) -> None:
    """Do with an entry point what the loader does."""
    plugin = entry_point.load()
    if callable(plugin) and not isinstance(plugin, type(sys)):
        plugin()


def discover(package: str) -> None:
    """LeRobot's discovery, and what it would do to a plugin that only has an entry point."""
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    if package not in sys.modules and entry_points(package):
        importlib.import_module("lerobot_ext.plugins").load_all()


def once_more(package: str) -> None:
    """Discover, and do what the loader does, for a second time."""
    discover(package)
    for entry_point in entry_points(package):
        call(entry_point)


def main(package: str, first: str = "") -> dict[str, Any]:
    """What became of the package."""
    errors = Errors()
    logging.getLogger().addHandler(errors)
    load = functools.partial(importlib.import_module, package)
    answer: dict[str, Any] = {"import_error": attempt(load) if first else ""}
    for module in STOCK:
        attempt(functools.partial(importlib.import_module, module))
    # LeRobot's own choices only: one that was there before is told by the module of its class.
    before, modules = choices(), set(sys.modules)
    answer["discovery_error"] = attempt(lambda: discover(package))
    answer["discovered"] = package in sys.modules
    answer["modules"] = sorted(set(sys.modules) - modules)
    if not answer["discovered"] and not answer["import_error"]:
        answer["import_error"] = attempt(load)
    after = choices()
    stock = {name: module for name, module in before.items() if module.startswith("lerobot.")}
    answer["registered"] = sorted(n for n, m in after.items() if stock.get(n) != m)
    # A replaced stock class under another name is LeRobot's: only a look before the plugin can tell it.
    answer["own"] = [name for name in answer["registered"] if not after[name].startswith("lerobot.")]
    answer["lost"] = sorted(set(stock) - set(after))
    answer["errors"] = [text for text in errors.found if package in text]
    answer["again"] = attempt(functools.partial(once_more, package))
    answer["changed_again"] = sorted(n for n, m in choices().items() if after.get(n) != m)
    return answer


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(*sys.argv[1:])) + "\n")
