# SPDX-License-Identifier: Apache-2.0
"""The command that installs a part of ours the way this installation was made: for the remedies of messages.

Nothing of ours may be on an index, so `pip install lerobot_policy_lapo` helps nobody who works in a clone:
there `uv sync` brings everything, and an environment of one's own takes the folders.
"""

import shlex
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from lerobot_ext.origins import folder_of

CORE = "lerobot_ext"
_GROUPS = ("policies", "robots", "processors")
"""Folders of a clone that hold plugins."""


def install_command(*requirements: str) -> str:
    """What to type for these.

    Args:
        requirements (`str`): Names of distributions, with extras: `lerobot_policy_lapo`, `lerobot_ext[plot]`.
    """
    clone = source_folder()
    if clone is not None and clone in Path(sys.prefix).parents:
        return "uv sync" if Path.cwd() == clone else f"uv sync --project {shlex.quote(str(clone))}"
    # An environment that uv has made has no pip, and the `pip` on the path would be another Python's.
    tool = "pip install" if find_spec("pip") is not None else "uv pip install"
    return " ".join([tool, *(shlex.quote(_place(one, clone)) for one in requirements)])


def source_folder() -> Path | None:
    """Where the core's sources are when it was installed from a folder and not from an index."""
    try:
        return folder_of(metadata.distribution(CORE))
    except metadata.PackageNotFoundError:
        return None


def _place(requirement: str, clone: Path | None) -> str:
    """The folder of a requirement in a clone, with its extras; else the requirement."""
    name, bracket, extras = requirement.partition("[")
    if clone is None:
        return requirement
    for folder in (clone / group / name for group in _GROUPS):
        if (folder / "pyproject.toml").is_file():
            return f"{folder}{bracket}{extras}"
    return f"{clone}{bracket}{extras}" if name == CORE else requirement
