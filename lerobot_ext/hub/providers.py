# SPDX-License-Identifier: Apache-2.0
"""Which installed distribution provides a module, editable installs included.

Most are named like their package, by the convention of LeRobot's plugins: that is looked at first, because
asking all distributions takes a third of a second. An editable install lists no modules, only where its
source folder is: when its name does not tell, the nearest source folder above the module's file does.
"""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from lerobot_ext.origins import folder_of, is_editable, origin_of


@dataclass(frozen=True)
class Package:
    """One distribution that a checkpoint needs.

    Args:
        name (`str`): Its name, as in its metadata.
        version (`str`): Its version; empty when any will have to do.
        provides (`tuple[str, ...]`): What of the checkpoint comes from it, such as `policy act`.
        extra (`str`, *optional*, defaults to `""`): Extra of it that those parts need.
        editable (`bool`, *optional*, defaults to `False`): It was installed from a source folder, so that the
            version alone does not say which code ran.
        url (`str`, *optional*, defaults to `""`): Where pip got it, if from a version control system.
    """

    name: str
    version: str
    provides: tuple[str, ...] = ()
    extra: str = ""
    editable: bool = False
    url: str = ""

    @property
    def requirement(self) -> str:
        """What to hand to `pip install` for exactly this one."""
        name = f"{self.name}[{self.extra}]" if self.extra else self.name
        if self.url:
            return f"{name} @ {self.url}"
        return f"{name}=={self.version}" if self.version else name

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; what is empty is left out."""
        more = {"extra": self.extra, "editable": self.editable, "url": self.url}
        return {
            "name": self.name,
            "version": self.version,
            "provides": list(self.provides),
            **{key: value for key, value in more.items() if value},
        }


def find_packages(parts: Mapping[str, str]) -> tuple[list[Package], list[str]]:
    """The distributions behind the parts of a checkpoint.

    Args:
        parts (`Mapping[str, str]`): Module of each part, by what it is: `{"policy act": "lerobot.…"}`.

    Returns:
        The packages sorted by name, and the parts whose module no distribution provides.
    """
    provided: dict[str, list[str]] = {}
    unpackaged: list[str] = []
    for part, module in parts.items():
        distribution = _provider(module)
        if distribution is None:
            unpackaged.append(part)
        else:
            provided.setdefault(distribution.name, []).append(part)
    found = [describe_distribution(name, provides) for name, provides in provided.items()]
    return sorted(found, key=lambda package: package.name), sorted(unpackaged)


def describe_distribution(name: str, provides: Iterable[str] = ()) -> Package:
    """An installed distribution as a `Package`.

    Raises:
        PackageNotFoundError: It is not installed.
    """
    distribution = metadata.distribution(name)
    origin = origin_of(distribution)
    url = ""
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        url = f"{vcs.get('vcs', 'git')}+{origin.get('url', '')}@{vcs.get('commit_id', '')}"
    return Package(
        name=distribution.name,
        version=distribution.version,
        provides=tuple(sorted(set(provides))),
        editable=is_editable(distribution),
        url=url,
    )


def _provider(module: str) -> metadata.Distribution | None:
    """The distribution that `module` belongs to, `None` for a script's or a folder's own."""
    top = module.partition(".")[0]
    if (namesake := _namesake(top)) is not None:
        return namesake
    names = sorted(set(metadata.packages_distributions().get(top, [])))
    if len(names) > 1:
        # A namespace package: several distributions fill it, the one that lists the file is meant.
        path = module.replace(".", "/")
        names = [name for name in names if _lists(metadata.distribution(name), path)] or names
    return metadata.distribution(names[0]) if names else _by_source_folder(top)


def _namesake(top: str) -> metadata.Distribution | None:
    """The distribution called like package `top`, if it is the one that brings it."""
    try:
        distribution = metadata.distribution(top)
    except metadata.PackageNotFoundError:
        return None
    recorded = distribution.read_text("RECORD") or ""
    return distribution if is_editable(distribution) or f"{top}/" in recorded else None


def _lists(distribution: metadata.Distribution, path: str) -> bool:
    """Whether a distribution installed module `path` (`a/b/c`)."""
    wanted = {f"{path}.py", f"{path}/__init__.py"}
    return any(str(file) in wanted for file in distribution.files or [])


def _by_source_folder(top: str) -> metadata.Distribution | None:
    """The editable distribution whose source folder is nearest above package `top`."""
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).resolve()
    found: list[tuple[int, metadata.Distribution]] = []
    for distribution in metadata.distributions():
        folder = folder_of(distribution) if is_editable(distribution) else None
        if folder is not None and folder.resolve() in file.parents:
            found.append((len(folder.resolve().parts), distribution))
    return max(found, key=lambda pair: pair[0])[1] if found else None
