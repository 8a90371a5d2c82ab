# SPDX-License-Identifier: Apache-2.0
"""Finds what a test leaves behind for the tests after it in the same process.

Looked at are the functions and classes in the namespaces of LeRobot's modules, the methods of those of its
classes that our patches change, and the environment variables that LeRobot, the Hub's client and we read.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, Final

import lerobot

from lerobot_ext import plugins

VARIABLES: Final = ("LEROBOT_", "HF_")
MODULES: Final = ("lerobot.scripts.", "lerobot.datasets.", "lerobot.common.", "lerobot.processor.")
MORE_MODULES: Final = ("lerobot.policies.factory", "lerobot.policies.pretrained", "lerobot.envs.factory")
"""Where our patches and the tests put other functions; to look through all of LeRobot would take longer."""
LEROBOT: Final = str(Path(lerobot.__file__).parent) + os.sep
TESTS: Final = str(Path(__file__).parent.parent) + os.sep

State = dict[str, Any]


class Watch:
    """Compares the process after each test with what it was before.

    A fixture of a module may leave its change in place until the module's last test: only then it has to be
    gone. LeRobot's own in place of ours is fine, since tests that need stock LeRobot take ours out; and ours
    in place of LeRobot's where the test was the first to load all plugins.
    """

    def __init__(self) -> None:
        self._before = state()
        self._loaded = plugins._started
        self._seen: dict[str, str] = {}

    def after(self, test: str, *, module_goes_on: bool) -> str:
        """What a test, or the tests of its module, left behind: a line for each, nothing if they did not."""
        now, had_loaded = state(), self._loaded
        changed = dict(differences(self._before, now, ours=plugins._started and not had_loaded))
        for key in changed:
            self._seen.setdefault(key, test)
        if module_goes_on:
            return ""
        said = [f"{line}; so since {self._seen[key]}" for key, line in changed.items()]
        self._before, self._loaded, self._seen = now, plugins._started, {}
        return "\n".join(said)


def differences(before: State, now: State, *, ours: bool) -> Iterator[tuple[str, str]]:
    """Name and description of what is another; `ours`: whether the plugins may have put theirs there."""
    for key in before.keys() | now.keys():
        old, new = before.get(key), now.get(key)
        if old is new:
            continue
        if key.startswith(VARIABLES):
            if old != new:
                yield key, f"environment variable {key} is {new!r}, was {old!r}"
        elif old is not None and new is not None:  # else its module was imported, or taken out
            home = file_of(new)
            if not home.startswith(LEROBOT) and not (ours and not home.startswith(TESTS)):
                yield key, f"{key} is {new!r} of {home}, was {old!r} of {file_of(old)}"


def file_of(value: Any) -> str:
    """Where a function or class is from; of another object, where its class is."""
    if isinstance(value, FunctionType):
        return value.__code__.co_filename
    kind = value if isinstance(value, type) else type(value)
    return str(getattr(sys.modules.get(kind.__module__), "__file__", ""))


def state() -> State:
    """What stands where at this moment."""
    found: State = {key: value for key, value in os.environ.items() if key.startswith(VARIABLES)}
    for name in list(sys.modules):
        if name.startswith(MODULES) or name in MORE_MODULES:
            found.update(_of_module(name))
    return found


def _of_module(name: str) -> Iterator[tuple[str, Any]]:
    for key, value in list(vars(sys.modules[name]).items()):
        if not callable(value):
            continue
        yield f"{name}.{key}", value
        if isinstance(value, type) and value.__module__ == name:
            for method, function in list(vars(value).items()):
                if isinstance(function, FunctionType):
                    yield f"{name}.{key}.{method}", function
