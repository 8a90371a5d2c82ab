# SPDX-License-Identifier: Apache-2.0
"""Which LeRobot the user means with `--against`, as a requirement that pip and uv understand."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from lerobot_ext.cli.command import CommandError

REPOSITORY: Final = "https://github.com/huggingface/lerobot"
_REMEDY: Final = (
    "give a version (0.7.0), a requirement ('lerobot>=0.7.0rc1'), `main`, a git URL, or a folder or wheel"
)


@dataclass(frozen=True)
class Target:
    """A LeRobot to install.

    Args:
        given (`str`): What the user wrote.
        where (`str`): What follows `lerobot[extras]` in a requirement: `==0.7.0` or ` @ git+https://…`.
    """

    given: str
    where: str

    def requirement(self, extras: set[str]) -> str:
        """The requirement, with LeRobot's `extras`."""
        names = f"[{','.join(sorted(extras))}]" if extras else ""
        return f"lerobot{names}{self.where}"


def parse_target(text: str) -> Target:
    """The LeRobot that `text` names.

    Args:
        text (`str`): A version, a specifier, a requirement, `main`, a git or wheel URL, or a path.

    Raises:
        CommandError: It names none; says what may be given.
    """
    given = text.strip()
    if not given:
        _refuse(given, "")
    if given == "main":
        return Target(given, f" @ git+{REPOSITORY}@main")
    if re.match(r"(git\+|https?://|file://)", given):
        url = (
            given
            if given.startswith(("git+", "file://")) or given.endswith((".whl", ".tar.gz", ".zip"))
            else ""
        )
        # The address of a repository, as copied from a browser.
        return Target(given, f" @ {url or f'git+{given}'}")
    path = Path(os.path.expanduser(given))
    if path.exists():
        _check_path(given, path)
        return Target(given, f" @ {path.resolve().as_uri()}")
    return Target(given, _version_part(given))


def _check_path(given: str, path: Path) -> None:
    """Refuse a path that cannot be installed from."""
    if path.is_dir() and not any((path / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise CommandError(f"--against {given} is a folder without a pyproject.toml", _REMEDY)
    if path.is_file() and not path.name.endswith((".whl", ".tar.gz")):
        raise CommandError(f"--against {given} is neither a wheel nor an archive of sources", _REMEDY)


def _version_part(given: str) -> str:
    """`==0.7.0` of `0.7.0`, `>=0.7` of `lerobot>=0.7`."""
    try:
        return f"=={Version(given)}"
    except InvalidVersion:
        pass
    try:
        return str(SpecifierSet(given))
    except InvalidSpecifier:
        pass
    try:
        requirement = Requirement(given)
    except InvalidRequirement as error:
        _refuse(given, f": {str(error).splitlines()[0]}")
    if requirement.name.lower() != "lerobot":
        _refuse(given, f": it names {requirement.name!r}")
    if requirement.url:
        return f" @ {requirement.url}"
    return str(requirement.specifier)


def _refuse(given: str, why: str) -> NoReturn:
    raise CommandError(f"--against {given!r} is no LeRobot{why}", _REMEDY)
