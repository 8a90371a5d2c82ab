# SPDX-License-Identifier: Apache-2.0
"""Which installed distributions are LeRobot plugins, told from their metadata alone; nothing is imported."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from lerobot_ext.cli.main import GROUP as COMMAND_GROUP
from lerobot_ext.plugins import GROUP as PLUGIN_GROUP

# `lerobot.utils.import_utils.register_third_party_plugins` imports the distributions that begin with these.
PREFIXES = ("lerobot_robot_", "lerobot_camera_", "lerobot_teleoperator_", "lerobot_policy_", "lerobot_env_")
# Names people give to plugins that LeRobot then never looks at, by the word after `lerobot_`.
NEAR_PREFIXES = {
    "robots": "lerobot_robot_",
    "cameras": "lerobot_camera_",
    "teleop": "lerobot_teleoperator_",
    "teleops": "lerobot_teleoperator_",
    "teleoperators": "lerobot_teleoperator_",
    "policies": "lerobot_policy_",
    "envs": "lerobot_env_",
    "environment": "lerobot_env_",
    "environments": "lerobot_env_",
    "gym": "lerobot_env_",
    "processor": "",
    "processors": "",
    "plugin": "",
    "plugins": "",
}
CORE = "lerobot_ext"


@dataclass(frozen=True)
class PluginDistribution:
    """An installed distribution that is, or looks like, a LeRobot plugin.

    Args:
        name (`str`): Its name exactly as in its metadata: LeRobot compares that.
        version (`str`): Its version.
        plugin_entry_points (`list[str]`): What it declares for our loader, `name = module`.
        commands (`list[str]`): Names of the `lerobot-ext` commands it brings.
        packages (`list[str]`): Top-level packages it holds, as far as its metadata says.
        location (`str`): Folder of its metadata.
        unmet (`list[str]`): Requirements that are missing or present in another version, LeRobot's excepted.
        lerobot_requirement (`str`): What it asks of LeRobot, such as `>=0.6.1,<0.7`; empty when it says
            nothing.
        lerobot_fits (`bool`): Whether the installed LeRobot is within that.
        copies (`int`): How often it was found on the path.
    """

    name: str
    version: str
    plugin_entry_points: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    location: str = ""
    unmet: list[str] = field(default_factory=list)
    lerobot_requirement: str = ""
    lerobot_fits: bool = True
    copies: int = 1

    @property
    def discovered(self) -> bool:
        """Whether LeRobot itself imports it."""
        return self.name.startswith(PREFIXES)

    @property
    def near_prefix(self) -> str | None:
        """What its name should begin with when LeRobot misses it by a little; else None.

        Empty where LeRobot has no such kind of plugin at all.
        """
        if self.discovered:
            return None
        name = underscored(self.name)
        for prefix in PREFIXES:
            if name.startswith(prefix):
                return prefix
        word = name.removeprefix("lerobot_").partition("_")[0]
        return NEAR_PREFIXES.get(word) if name.startswith("lerobot_") else None


def survey(distributions: Iterable[metadata.Distribution] | None = None) -> list[PluginDistribution]:
    """All installed distributions that are LeRobot plugins or look like one, ours or not, sorted by name.

    Args:
        distributions (`Iterable[Distribution]`, *optional*): Where to look; this environment by default.

    Returns:
        The plugins. Those LeRobot imports, those that declare entry points for our loader or commands, and
        those whose name misses LeRobot's rule by a hyphen or a near prefix.
    """
    found: dict[str, list[metadata.Distribution]] = {}
    for distribution in metadata.distributions() if distributions is None else distributions:
        name = distribution.metadata.get("Name")
        if name:
            found.setdefault(name, []).append(distribution)
    described = [_describe(name, copies) for name, copies in found.items()]
    return sorted((d for d in described if _is_plugin(d)), key=lambda d: d.name)


def underscored(name: str) -> str:
    """`name` with every run of `-`, `_` and `.` as one underscore, in lower case."""
    return re.sub(r"[-_.]+", "_", name).lower()


def _is_plugin(distribution: PluginDistribution) -> bool:
    ours = bool(distribution.plugin_entry_points or distribution.commands)
    return distribution.discovered or ours or distribution.near_prefix is not None


def _describe(name: str, copies: list[metadata.Distribution]) -> PluginDistribution:
    """What the metadata says; of several copies the first one counts, as for Python."""
    distribution = copies[0]
    entry_points = {(e.group, e.name, e.value): e for copy in copies for e in copy.entry_points}.values()
    plugins = [f"{e.name} = {e.value}" for e in entry_points if e.group == PLUGIN_GROUP]
    commands = [e.name for e in entry_points if e.group == COMMAND_GROUP]
    if not (plugins or commands or underscored(name).startswith("lerobot_")):
        return PluginDistribution(name, "")  # nothing to do with us; spare it the reading
    wanted, fits = _lerobot_window(distribution)
    return PluginDistribution(
        name=name,
        version=distribution.version,
        plugin_entry_points=plugins,
        commands=commands,
        packages=_packages(distribution),
        location=str(distribution.locate_file("")),
        unmet=_unmet(distribution),
        lerobot_requirement=wanted,
        lerobot_fits=fits,
        copies=len({str(getattr(copy, "_path", index)) for index, copy in enumerate(copies)}),
    )


def _requirements(distribution: metadata.Distribution) -> Iterable[Requirement]:
    """Its requirements that apply here, without extras."""
    for line in distribution.requires or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _lerobot_window(distribution: metadata.Distribution) -> tuple[str, bool]:
    """The LeRobot versions it asks for, and whether the installed one is among them."""
    for requirement in _requirements(distribution):
        if underscored(requirement.name) == "lerobot":
            return str(requirement.specifier), _satisfied(requirement)
    return "", True


def _unmet(distribution: metadata.Distribution) -> list[str]:
    """Requirements other than LeRobot that the environment does not meet."""
    return [
        str(requirement)
        for requirement in _requirements(distribution)
        if underscored(requirement.name) != "lerobot" and not _satisfied(requirement)
    ]


def _satisfied(requirement: Requirement) -> bool:
    try:
        installed = Version(metadata.version(requirement.name))
    except (metadata.PackageNotFoundError, InvalidVersion):
        return False
    return requirement.specifier.contains(installed, prereleases=True)


def _packages(distribution: metadata.Distribution) -> list[str]:
    """Top-level packages, from `top_level.txt` or the list of files; empty for some editable installs."""
    listed = (distribution.read_text("top_level.txt") or "").split()
    files = distribution.files or []
    packages = {file.parts[0] for file in files if file.name == "__init__.py" and len(file.parts) == 2}
    return sorted(set(listed) | packages)
