# SPDX-License-Identifier: Apache-2.0
"""What a new plugin is called: the type string, the class names, the package, all from one word of the user.

LeRobot derives modules, classes and functions from these strings, so one that does not fit is refused here
and not met again as `invalid choice` a day later.
"""

import keyword
import re
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Final

from lerobot_ext.cli.command import CommandError

# A processor pack has no prefix of its own in LeRobot: without one of the five it is never imported.
PREFIXES: Final = {
    "policy": "lerobot_policy_",
    "robot": "lerobot_robot_",
    "teleoperator": "lerobot_teleoperator_",
    "camera": "lerobot_camera_",
    "env": "lerobot_env_",
    "processor": "lerobot_robot_processors_",
}
KINDS: Final = tuple(PREFIXES)
# What people write for a kind, in front of the name or behind it.
_KIND_WORDS: Final = {
    "policy": ("policy", "policies"),
    "robot": ("robot", "robots"),
    "teleoperator": ("teleoperator", "teleoperators", "teleop"),
    "camera": ("camera", "cameras"),
    "env": ("env", "envs", "environment"),
    "processor": ("robot_processors", "processors", "processor"),
}
_REGISTRIES: Final = {
    "policy": "PreTrainedConfig",
    "robot": "RobotConfig",
    "teleoperator": "TeleoperatorConfig",
    "camera": "CameraConfig",
    "env": "EnvConfig",
}
LONGEST: Final = 30
"""Longer names would break lines that the templates have formatted, and nobody types them."""

_REGISTRATION = re.compile(r"@(\w+)\.(register_subclass|register)\(\s*(?:name\s*=\s*)?\"([^\"]+)\"\s*\)")


@dataclass(frozen=True)
class Names:
    """All the names of one new plugin.

    Args:
        kind (`str`): One of `KINDS`.
        name (`str`): The type string, `my_arm`: what users write after `--robot.type=`.
        notes (`tuple[str, ...]`): What was changed about the word given, one sentence each.
    """

    kind: str
    name: str
    notes: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """Name of the distribution and of the package: LeRobot demands that they are the same."""
        return PREFIXES[self.kind] + self.name

    @property
    def camel(self) -> str:
        """Stem of the class names, `MyArm`."""
        return "".join(part[:1].upper() + part[1:] for part in self.name.split("_"))

    @property
    def title(self) -> str:
        """The name as words, `My arm`."""
        words = self.name.replace("_", " ")
        return words[:1].upper() + words[1:]


def make_names(kind: str, given: str) -> Names:
    """The names of a new plugin.

    Args:
        kind (`str`): One of `KINDS`.
        given (`str`): What the user typed: `my-arm`, `MyArm`, `lerobot_robot_my_arm` all mean `my_arm`.

    Raises:
        CommandError: No good name can be made of it; says why.
    """
    if kind not in PREFIXES:
        raise CommandError(f"there is no kind {kind!r}", f"choose one of {', '.join(KINDS)}")
    text = given.strip()
    if not text.isascii() or not re.fullmatch(r"[A-Za-z0-9 ._-]+", text):
        raise CommandError(
            f"NAME is {given!r}; a plugin's name may hold ASCII letters, digits, `_` and `-` only",
            f"choose another, such as `lerobot-ext new {kind} my_{kind}`",
        )
    snake = _snake(text)
    name = _without_kind(kind, snake)
    notes = []
    if name != given:
        notes.append(f"{given!r} is written {name!r}: LeRobot's type strings are lower case with underscores")
    _check(kind, given, name)
    return Names(kind, name, tuple(notes))


def check_free(names: Names) -> None:
    """Refuse names that something installed here has already; nothing is imported.

    Raises:
        CommandError: LeRobot registers the type, or the distribution or package is installed.
    """
    taken = stock_types(names.kind)
    if names.name in taken:
        what = "processor step" if names.kind == "processor" else f"{names.kind} type"
        raise CommandError(
            f"LeRobot itself has the {what} {names.name!r} (in {taken[names.name]}); the stock one would be "
            "used, or the import of the plugin would fail",
            f"choose another name, such as {'my_' + names.name!r}",
        )
    try:
        installed = metadata.version(names.package)
    except metadata.PackageNotFoundError:
        pass
    else:
        raise CommandError(
            f"{names.package} {installed} is installed in this environment already",
            f"choose another name, or `pip uninstall {names.package}`",
        )
    if util.find_spec(names.package) is not None:
        raise CommandError(f"a package {names.package!r} can be imported here already", "choose another name")


def stock_types(kind: str) -> dict[str, str]:
    """The names that the installed LeRobot registers for a kind, and the file of each.

    Read from LeRobot's sources: importing them would take ten seconds, and some need extras to import at all.

    Args:
        kind (`str`): One of `KINDS`.
    """
    spec = util.find_spec("lerobot")
    if spec is None or not spec.submodule_search_locations:
        return {}
    registry = _REGISTRIES.get(kind, "ProcessorStepRegistry")
    found: dict[str, str] = {}
    for root in map(Path, spec.submodule_search_locations):
        for file in root.rglob("*.py"):
            text = file.read_text(encoding="utf-8", errors="replace")
            if f"@{registry}.register" in text:
                names = (name for base, _, name in _REGISTRATION.findall(text) if base == registry)
                found |= dict.fromkeys(names, str(file.relative_to(root.parent)))
    return found


def _snake(text: str) -> str:
    """`MyACTPolicy`, `my-act policy` and `my_act_policy` as `my_act_policy`."""
    split = re.sub(r"([A-Z]+)([A-Z][a-z])|([a-z0-9])([A-Z])", r"\1\3_\2\4", text)
    return re.sub(r"[ ._-]+", "_", split).strip("_").lower()


def _without_kind(kind: str, snake: str) -> str:
    """`snake` without `lerobot` and the kind in front, and without the kind behind."""
    name = snake.removeprefix("lerobot_")
    for word in _KIND_WORDS[kind]:
        # `policy_net` is a name; `lerobot_policy_net` is a whole package's.
        if name != snake and name.startswith(f"{word}_"):
            name = name.removeprefix(f"{word}_")
            break
    for word in _KIND_WORDS[kind]:
        if name.endswith(f"_{word}"):
            return name.removesuffix(f"_{word}")
    return name


def _check(kind: str, given: str, name: str) -> None:
    """Refuse a normalised name that Python or LeRobot cannot use.

    Raises:
        CommandError: Says what is wrong with it.
    """
    problem = ""
    if not name or name in (*_KIND_WORDS[kind], "lerobot"):
        problem = "leaves nothing that tells this plugin from others"
    elif not name[0].isalpha():
        problem = f"begins with {name[0]!r}, and classes are named after it"
    elif keyword.iskeyword(name) or keyword.iskeyword(name.capitalize()):
        problem = "is a keyword of Python, and a module and a class are named after it"
    elif len(name) > LONGEST:
        problem = f"is {len(name)} characters long; at most {LONGEST} are allowed"
    elif any(f"_{word}_" in f"_{name}_" for word in ("configuration", "modeling", "config")):
        # LeRobot finds modules by replacing `configuration_` in the whole dotted path.
        problem = "holds a word that LeRobot replaces in module names (configuration, modeling, config)"
    if problem:
        shown = f"{given!r}" if name == given else f"{given!r} (that is {name!r})"
        raise CommandError(
            f"NAME is {shown}: it {problem}", f"choose another, such as `lerobot-ext new {kind} my_{kind}`"
        )
