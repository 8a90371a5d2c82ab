# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints a client may name: those listed, and those below listed folders; nothing else."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CONFIG: Final = "config.json"
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_MAX_LISTED: Final = 50
_MAX_PARTS: Final = 8


class NotAllowed(Exception):  # noqa: N818 - reads as what it says
    """The client named a policy that it may not have."""


@dataclass(frozen=True)
class Allowed:
    """One policy a client may have.

    Args:
        name (`str`): What the client calls it.
        source (`str`): A local folder, or a Hub id, for LeRobot's `from_pretrained`.
    """

    name: str
    source: str


class AllowList:
    """The policies of a server.

    Args:
        paths (`Sequence[str]`): Checkpoint folders, or Hub ids (`user/repo`). A client names one as it stands
            here, or a folder by its last component where that is unambiguous.
        folders (`Sequence[Path]`): Every checkpoint below these may be named by its path within the folder.

    Raises:
        ValueError: A path is no checkpoint, a folder is none, or there is nothing to serve.
    """

    def __init__(self, paths: Sequence[str], folders: Sequence[Path] = ()) -> None:
        if not paths and not folders:
            raise ValueError("no policy is allowed: give `--policy.path` or `--allow` at least once.")
        self._listed = {path: Allowed(path, _resolve_listed(path)) for path in paths}
        short = [_short_name(path) for path in paths]
        for path, name in zip(paths, short, strict=True):
            if short.count(name) == 1 and name not in self._listed:
                self._listed[name] = Allowed(name, self._listed[path].source)
        self._folders = []
        for folder in folders:
            if not folder.is_dir():
                raise ValueError(f"`--allow` {folder} is no folder.")
            self._folders.append(folder.resolve())
        self._only = self.listed[0] if len(self.listed) == 1 and not folders else None

    @property
    def listed(self) -> list[Allowed]:
        """The policies that stand on the list by themselves, each once, by its short name if any."""
        return list({entry.source: entry for entry in self._listed.values()}.values())

    def find(self, name: str) -> Allowed:
        """The policy a client calls `name`; the only one there is, when the name is empty.

        Raises:
            NotAllowed: There is none of that name; what there is, is listed.
        """
        if not name and self._only is not None:
            return self._only
        if name in self._listed:
            return self._listed[name]
        found = self._below_a_folder(name)
        if found is None:
            shown = ", ".join(self.names()) or "none"
            raise NotAllowed(f"policy {name[:80]!r} is not on this server's list. It offers: {shown}")
        return found

    def names(self) -> list[str]:
        """What clients may ask for, the first fifty."""
        names = {entry.source: entry.name for entry in self._listed.values()}
        found = sorted(names.values())
        for folder in self._folders:
            for config in sorted(folder.glob(f"**/{CONFIG}")):
                name = config.parent.relative_to(folder).as_posix()
                if len(found) < _MAX_LISTED and name not in found and self._below_a_folder(name):
                    found.append(name)
        return found

    def _below_a_folder(self, name: str) -> Allowed | None:
        """A checkpoint below an allowed folder; links that lead out of it lead nowhere."""
        parts = name.split("/")
        if len(parts) > _MAX_PARTS or not all(_PART.fullmatch(part) for part in parts):
            return None
        for folder in self._folders:
            try:
                path = folder.joinpath(*parts).resolve(strict=True)
                config = (path / CONFIG).resolve(strict=True)
            except (OSError, RuntimeError):
                continue
            if path.is_dir() and path.is_relative_to(folder) and config.is_relative_to(folder):
                return Allowed(name, str(path))
        return None


def _resolve_listed(path: str) -> str:
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise ValueError(
                f"`--policy.path` {path} holds no {CONFIG}; name the checkpoint's `pretrained_model` folder."
            )
        return str(folder.resolve())
    if _HUB_ID.fullmatch(path) and not folder.exists():
        return path
    raise ValueError(f"`--policy.path` {path} is neither a checkpoint folder nor a Hub id (user/repo).")


def _short_name(path: str) -> str:
    """The last component that tells checkpoints apart."""
    return Path(path).expanduser().name if Path(path).expanduser().is_dir() else path
