# SPDX-License-Identifier: Apache-2.0
"""What has to be installed beside another LeRobot: our plugins as they are here, and what they need."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor.survey import survey, underscored

CORE: Final = "lerobot_ext"
# The kit makes datasets, and trains and evaluates policies on them.
_KIT_EXTRAS: Final = frozenset({"training", "evaluation"})


@dataclass
class Needs:
    """What goes into the environment.

    Args:
        distributions (`list[str]`): The core and the plugins; installed without their requirements, since
            those say which LeRobot they want.
        extras (`set[str]`): Extras of LeRobot that they ask for.
        others (`list[str]`): Their other requirements.
        windows (`dict[str, str]`): LeRobot versions that each asks for, by name; not heeded.
    """

    distributions: list[str] = field(default_factory=list)
    extras: set[str] = field(default_factory=set)
    others: list[str] = field(default_factory=list)
    windows: dict[str, str] = field(default_factory=dict)


def installed_plugins(asked: Iterable[str]) -> list[str]:
    """Names of the plugins to guard, as they are installed.

    Args:
        asked (`Iterable[str]`): What the user named; all plugins that are found when empty.

    Raises:
        CommandError: One is not installed, or none is.
    """
    names = [plugin.name for plugin in survey() if plugin.name != CORE]
    known = {underscored(name): name for name in names}
    missing = [name for name in asked if underscored(name) not in known]
    if missing:
        raise CommandError(
            f"no plugin {missing[0]!r} is installed", f"plugins installed here: {', '.join(names) or 'none'}"
        )
    wanted = list(dict.fromkeys(known[underscored(name)] for name in asked)) or names
    if not wanted:
        raise CommandError("no plugin is installed here", "install the plugin that you want to guard")
    return wanted


def needs_of(plugins: Iterable[str]) -> Needs:
    """What the core and `plugins` need, read from their metadata.

    Plugins that a plugin requires come along.

    Args:
        plugins (`Iterable[str]`): Distributions that are installed here.
    """
    needs = Needs(extras=set(_KIT_EXTRAS))
    ours = {canonicalize_name(name): name for name in (CORE, *(plugin.name for plugin in survey()))}
    waiting, seen = [CORE, *plugins], set()
    others: dict[str, None] = {}
    while waiting:
        name = waiting.pop(0)
        if canonicalize_name(name) in seen:
            continue
        seen.add(canonicalize_name(name))
        distribution = metadata.distribution(name)
        needs.distributions.append(distribution.name)
        for requirement in _requirements(distribution):
            key = canonicalize_name(requirement.name)
            if key == "lerobot":
                needs.extras |= requirement.extras
                needs.windows[distribution.name] = str(requirement.specifier)
            elif key in ours:
                waiting.append(ours[key])
            else:
                requirement.marker = None  # it applies here, as seen
                others[str(requirement)] = None
    needs.others = list(others)
    return needs


def pins(without: Iterable[str]) -> list[str]:
    """`name==version` of all that is installed here, so that LeRobot alone changes.

    Args:
        without (`Iterable[str]`): Distributions to leave out, LeRobot and the plugins.
    """
    left_out = {canonicalize_name(name) for name in (*without, "lerobot")}
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        # A direct reference has no version on an index.
        if name and canonicalize_name(name) not in left_out and not distribution.read_text("direct_url.json"):
            found.setdefault(canonicalize_name(name), f"{name}=={distribution.version}")
    return sorted(found.values())


def _requirements(distribution: metadata.Distribution) -> Iterator[Requirement]:
    """Its requirements that apply here, extras left out; the kit's own extra counts."""
    extras = ("", "testing") if distribution.name == CORE else ("",)
    for line in distribution.requires or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in extras):
            yield requirement
