# SPDX-License-Identifier: Apache-2.0
"""Writes a project from the templates beside this file, whole or not at all.

The templates are Jinja2 files (torch depends on Jinja2, so it costs nothing): those of `common`, then those
of the kind, which may replace a common one of the same path. In paths `PACKAGE` and `NAME` stand for the
names.
"""

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import date
from email.utils import parseaddr
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import jinja2
from packaging.requirements import Requirement
from packaging.version import Version

from lerobot_ext.cli.command import CommandError
from lerobot_ext.scaffold.names import Names

_SUFFIX: Final = ".jinja"
_CORE: Final = "lerobot_ext"


@dataclass(frozen=True)
class Texts:
    """What a new plugin says about itself.

    Args:
        author (`str`): `Name` or `Name <mail@example.org>`; empty for "The PACKAGE authors".
        description (`str`): One line for the package index; empty for a default.

    Raises:
        CommandError: One of them is not a single line of printable characters.
    """

    author: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        for field in ("author", "description"):
            value = getattr(self, field)
            if value and (not value.isprintable() or not value.strip()):
                raise CommandError(
                    f"--{field} is {value!r}; it must be one line of printable characters", "write it anew"
                )
        name, mail = _name_and_mail(self.author)
        if self.author and not (name or mail):
            raise CommandError(
                f"--author is {self.author!r}, which names nobody",
                "write `Ada Lovelace` or `Ada Lovelace <ada@example.org>`",
            )


def project_files(names: Names, texts: Texts) -> dict[str, str]:
    """The project's files by path, rendered; nothing is written.

    Args:
        names (`Names`): What it is called.
        texts (`Texts`): What it says about itself.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lerobot_ext.scaffold"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters["toml"] = toml_string
    context = _context(names, texts)
    files: dict[str, str] = {}
    for folder in ("common", names.kind):
        for template in environment.list_templates(extensions=[_SUFFIX.removeprefix(".")]):
            if not template.startswith(f"{folder}/"):
                continue
            path = template.removeprefix(f"{folder}/").removesuffix(_SUFFIX)
            path = path.replace("PACKAGE", names.package).replace("NAME", names.name)
            files[path] = environment.get_template(template).render(context)
    return dict(sorted(files.items()))


def write_project(folder: Path, files: dict[str, str]) -> None:
    """Write `files` below `folder`, which must not hold anything yet.

    The files are written beside it and moved in one step, so that a failure leaves nothing behind.

    Args:
        folder (`Path`): The project's folder.
        files (`dict[str, str]`): Text by path.

    Raises:
        CommandError: `folder` is there already and not empty, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(
            f"{folder} exists already; nothing was changed", "move it away, or give another --dir or NAME"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise CommandError(f"cannot write into {folder.parent}: {error}", "give another --dir") from error
    try:
        for path, text in files.items():
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="\n")
        draft.chmod(0o777 & ~_umask())
        if folder.exists():
            folder.rmdir()  # empty, as seen above; a rename onto it fails on Windows
        draft.rename(folder)
    except OSError as error:
        raise CommandError(
            f"cannot write {folder}: {error}; nothing was left behind", "give another --dir"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def toml_string(text: str) -> str:
    """`text` as a TOML basic string, quotes included; for printable text JSON's is one."""
    return json.dumps(text, ensure_ascii=False)


def lerobot_window() -> str:
    """The LeRobot versions that this core is made for, `>=0.6.1,<0.7`: a new plugin asks for the same."""
    for line in metadata.requires(_CORE) or []:
        requirement = Requirement(line)
        if requirement.name == "lerobot" and requirement.marker is None:
            lower_first = sorted(requirement.specifier, key=lambda part: "<" in part.operator)
            return ",".join(str(part) for part in lower_first)
    raise CommandError(
        f"{_CORE}'s metadata asks for no LeRobot", f"reinstall it: `pip install --force-reinstall {_CORE}`"
    )


def _context(names: Names, texts: Texts) -> dict[str, Any]:
    author, mail = _name_and_mail(texts.author)
    core = Version(metadata.version(_CORE))
    return {
        "kind": names.kind,
        "name": names.name,
        "package": names.package,
        "cls": names.camel,
        "title": names.title,
        "author": author or mail or f"The {names.package} authors",
        "mail": mail,
        "description": texts.description or f"{names.title}: a {_KIND_TITLES[names.kind]} for LeRobot.",
        "year": date.today().year,
        "lerobot_window": lerobot_window(),
        "core_window": f">={core.base_version},<{core.major}.{core.minor + 1}",
    }


_KIND_TITLES: Final = {
    "policy": "policy",
    "robot": "robot",
    "teleoperator": "teleoperator",
    "camera": "camera",
    "env": "simulated environment",
    "processor": "pack of processor steps",
}


def _name_and_mail(author: str) -> tuple[str, str]:
    """`Ada <ada@x.org>` as (`Ada`, `ada@x.org`); without an address the whole text is the name."""
    if re.search(r"<[^<>\s]+@[^<>\s]+>\s*$", author):
        name, mail = parseaddr(author)
        if mail:
            return name.strip(), mail
    return author.strip(), ""


def _umask() -> int:
    """The process's umask; there is no way to read it without setting it."""
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask
