# SPDX-License-Identifier: Apache-2.0
"""`lerobot_ext.json`: what a checkpoint needs and how it came about, beside its `config.json`.

```json
{"format": 1, "policy": "act", "python": "3.12", "lerobot": "0.6.1",
 "packages": [{"name": "lerobot", "version": "0.6.1", "provides": ["policy act", "step …"]}],
 "unpackaged": [], "training": {…}, "history": {…}}
```

Reading it and comparing it with what is installed needs neither LeRobot nor torch: a machine without either
can be told what to install.
"""

import json
import platform
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from packaging.version import InvalidVersion, Version

from lerobot_ext.data.durable import replacing
from lerobot_ext.hub.providers import Package

FILE_NAME = "lerobot_ext.json"
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*")
_URL = re.compile(r"(?:git|hg|svn|bzr)\+(?:https?|ssh)://[^\s'\"]+")


class RequirementsError(ValueError):
    """A `lerobot_ext.json` that cannot be read; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Requirements:
    """What a checkpoint needs, and facts about its training.

    Args:
        policy (`str`): The policy's type string.
        packages (`tuple[Package, ...]`): Distributions that provide the policy and every saved
            processor step, and LeRobot itself.
        unpackaged (`tuple[str, ...]`): Parts that no distribution provides: they must be copied by hand.
        python (`str`): Python of the machine that trained it, such as `3.12`.
        lerobot (`str`): LeRobot's version there.
        training (`dict`): Dataset, steps, batch size, seed and the like; see `training_facts`.
        history (`dict`): `loss` (pairs of step and loss) and `evaluations`; see `TrainingHistory`.
    """

    policy: str
    packages: tuple[Package, ...]
    unpackaged: tuple[str, ...] = ()
    python: str = ""
    lerobot: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of `lerobot_ext.json`."""
        return {
            "format": FORMAT,
            "policy": self.policy,
            "python": self.python,
            "lerobot": self.lerobot,
            "packages": [package.to_json() for package in self.packages],
            "unpackaged": list(self.unpackaged),
            "training": self.training,
            "history": self.history,
        }

    def save(self, folder: Path) -> Path:
        """Write `lerobot_ext.json` into `folder`, wholly or not at all."""
        path = folder / FILE_NAME
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        with replacing(path) as new:
            new.write_text(text, encoding="utf-8")
        return path


@dataclass(frozen=True)
class Shortfall:
    """A package that is not as a checkpoint needs it.

    Args:
        package (`Package`): What it needs.
        kind (`str`): `missing`, or `version` when another version is installed.
        installed (`str`): The version installed, empty when missing.
    """

    package: Package
    kind: Literal["missing", "version"]
    installed: str = ""

    def __str__(self) -> str:
        what = ", ".join(self.package.provides) or "the checkpoint"
        if self.kind == "missing":
            return f"{self.package.name} {self.package.version} is not installed (provides {what})"
        return f"{self.package.name} is {self.installed}, made with {self.package.version} (provides {what})"


def read_requirements(path: Path) -> Requirements:
    """Read a `lerobot_ext.json`.

    Raises:
        RequirementsError: It is not JSON, of a format that this version does not know, or lacks a field.
        FileNotFoundError: There is none.
    """
    return parse_requirements(path.read_bytes(), str(path))


def parse_requirements(text: bytes, source: str) -> Requirements:
    """The requirements in the bytes of a `lerobot_ext.json`; `source` names them in errors.

    Raises:
        RequirementsError: As `read_requirements`.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise RequirementsError(f"{source} is not JSON ({error}); get the checkpoint again") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("format"), int):
        raise RequirementsError(f"{source} has no number in field `format`; get the checkpoint again")
    if raw["format"] > FORMAT:
        raise RequirementsError(
            f"{source} has format {raw['format']}, this lerobot_ext knows up to {FORMAT}; "
            "`pip install --upgrade lerobot_ext`"
        )
    try:
        return Requirements(
            policy=_printable(_text(raw, "policy")),
            packages=tuple(_package(entry) for entry in _list(raw, "packages")),
            unpackaged=tuple(_printable(str(part)) for part in _list(raw, "unpackaged")),
            python=_printable(str(raw.get("python", ""))),
            lerobot=_printable(str(raw.get("lerobot", ""))),
            training=_object(raw, "training"),
            history=_object(raw, "history"),
        )
    except RequirementsError as error:
        raise RequirementsError(f"{source}: {error}; get the checkpoint again") from None


def shortfalls(packages: Sequence[Package]) -> list[Shortfall]:
    """Which of `packages` are missing here, or installed in another version."""
    found = []
    for package in packages:
        try:
            installed = metadata.version(package.name)
        except metadata.PackageNotFoundError:
            found.append(Shortfall(package, "missing"))
            continue
        if not _same_version(installed, package.version):
            found.append(Shortfall(package, "version", installed))
    return found


def install_line(packages: Sequence[Package]) -> str:
    """The `pip install` line for exactly these packages."""
    ordered = sorted(packages, key=lambda package: (package.name != "lerobot", package.name))
    return " ".join(["pip install", *(shlex.quote(package.requirement) for package in ordered)])


def python_version() -> str:
    """Python's version without the patch, as checkpoints note it."""
    return ".".join(platform.python_version_tuple()[:2])


def _same_version(one: str, other: str) -> bool:
    """Whether two version strings mean the same release."""
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def _package(entry: Any) -> Package:
    if not isinstance(entry, dict):
        raise RequirementsError(f"an entry of `packages` is {entry!r}, not an object")
    return Package(
        name=_checked(entry, "name", _NAME),
        version=_checked(entry, "version", _VERSION),
        provides=tuple(_printable(str(part)) for part in _list(entry, "provides")),
        extra=_checked(entry, "extra", _NAME) if entry.get("extra") else "",
        editable=bool(entry.get("editable", False)),
        url=_checked(entry, "url", _URL) if entry.get("url") else "",
    )


def _checked(raw: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    """A text that a stranger may have written and that ends up in a command line people paste."""
    value = _text(raw, name)
    if not pattern.fullmatch(value):
        raise RequirementsError(f"field `{name}` is {value!r}, which no package has")
    return value


def _printable(text: str) -> str:
    """`text` without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        raise RequirementsError(f"field `{name}` is {value!r}, a text is needed")
    return value


def _list(raw: dict[str, Any], name: str) -> list[Any]:
    value = raw.get(name, [])
    if not isinstance(value, list):
        raise RequirementsError(f"field `{name}` is {value!r}, a list is needed")
    return value


def _object(raw: dict[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name, {})
    if not isinstance(value, dict):
        raise RequirementsError(f"field `{name}` is {value!r}, an object is needed")
    return value
