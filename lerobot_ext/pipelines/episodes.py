# SPDX-License-Identifier: Apache-2.0
"""Resets the steps of robot-side pipelines where an episode starts.

LeRobot resets a policy's pipelines and never a robot's. Where its own loops start is where one can know:
`record_loop` (each episode, and each pause between two), `teleop_loop`, and `reset` of the inference engine
of `lerobot-rollout`. A replay is one episode with new steps.
"""

import sys
import weakref
from types import ModuleType
from typing import Any, Protocol

from lerobot_ext.patches import Patch, Place


class Resettable(Protocol):
    """What has steps with a memory."""

    def reset(self) -> None:
        """Forget the last episode."""


# By id: LeRobot's pipelines cannot be hashed.
_watched: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_patches: dict[Place, Patch] = {}

_LOOPS = (
    ("lerobot.scripts.lerobot_record", "record_loop"),
    ("lerobot.scripts.lerobot_teleoperate", "teleop_loop"),
)
_ENGINES = (
    ("lerobot.rollout.inference.sync", "SyncInferenceEngine"),
    ("lerobot.rollout.inference.rtc", "RTCInferenceEngine"),
)


def watch(pipelines: Resettable) -> None:
    """Reset these whenever an episode starts in this process, for as long as they live."""
    _watched[id(pipelines)] = pipelines
    install()


def start() -> None:
    """An episode starts: let every step forget the last one."""
    for pipelines in list(_watched.values()):
        pipelines.reset()


def install() -> None:
    """Find out about the start of an episode in the stock loops that this process has imported."""
    for module_name, function in _LOOPS:
        for module in modules_of(module_name):
            _before(module, function)
    for module_name, engine in _ENGINES:
        for module in modules_of(module_name):
            if hasattr(module, engine):
                _before(getattr(module, engine), "reset")


def uninstall() -> None:
    """Give LeRobot its own loops back."""
    for patch in _patches.values():
        patch.uninstall()
    _patches.clear()


def _before(owner: ModuleType | type, name: str) -> None:
    """Announce an episode before a function of LeRobot's."""
    if (owner, name) in _patches:
        return
    patch = _patches[owner, name] = Patch("loops", "steps with a memory are not reset between episodes")

    def announce(*words: Any, **named: Any) -> Any:
        start()
        return patch.stock(name)(*words, **named)

    patch.install({(owner, name): announce})


def modules_of(name: str) -> list[ModuleType]:
    """The module as it runs in this process: under its name, and as `__main__` with `python -m`."""
    found = [sys.modules[name]] if name in sys.modules else []
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if main is not None and spec is not None and spec.name == name:
        found.append(main)
    return found
