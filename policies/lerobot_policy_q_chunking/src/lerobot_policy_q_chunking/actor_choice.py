# SPDX-License-Identifier: Apache-2.0
"""`--policy.actor.type=…`: any registered LeRobot policy as a field of a policy's configuration.

draccus makes an option of each field of each choice, reading sources for their help: a second set of all
policies would cost every stock command seconds. So the options of an actor are made only where the command
line speaks of one, and only those of the type that it names.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, make_dataclass
from typing import Any

import draccus

# Not from `lerobot.configs`: this module may be imported while that package still is.
from lerobot.configs.policies import PreTrainedConfig

OWN = "q_chunking"
_OPTION = re.compile(r"--(?:[\w-]+\.)*actor\.(\w+)(?:=(.*))?$", re.DOTALL)


@dataclass
class ActorConfig(draccus.ChoiceRegistry):
    """A configuration of any policy but this one; never built itself."""

    @classmethod
    def get_known_choices(cls) -> dict[str, Any]:
        """Policies by type; those that the command line does not name have no fields."""
        wanted = _named(sys.argv)
        return {
            name: choice if wanted == "" or name == wanted else _without_fields(name)
            for name, choice in PreTrainedConfig.get_known_choices().items()
            if name != OWN
        }

    @classmethod
    def get_choice_class(cls, name: str) -> Any:
        """The configuration class of a type."""
        if name == OWN:
            raise KeyError(name)
        return PreTrainedConfig.get_choice_class(name)

    @classmethod
    def get_choice_name(cls, subcls: type) -> str:
        """The type of a configuration class."""
        return str(PreTrainedConfig.get_choice_name(subcls))


# So that draccus writes the type of an actor into config.json.
ActorConfig.register(PreTrainedConfig)  # type: ignore[attr-defined]


def _named(words: list[str]) -> str | None:
    """The type that a command line names for the actor; "" where it gives fields and no type."""
    found: str | None = None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option = _OPTION.match(word)
        if option is None:
            continue
        if option[1] == "type":
            return option[2] if option[2] is not None else following
        found = ""
    return found


def _without_fields(name: str) -> type:
    return make_dataclass(name, [])
