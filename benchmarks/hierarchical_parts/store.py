# SPDX-License-Identifier: Apache-2.0
"""Results as JSON files, one for each piece of work, with the recipe that made them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Store:
    """A folder of results.

    A result is used again only if its recipe is the one that would be followed now; one that was made
    otherwise is made anew.

    Args:
        folder (`Path`): Where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, name: str, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result `name` if this recipe made it, else None."""
        found = self._read(self._path(name))
        return found["result"] if found is not None and found["recipe"] == _plain(recipe) else None

    def save(self, name: str, recipe: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Keep a result; a reader never sees half of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"recipe": recipe, "result": result}, indent=1) + "\n", encoding="utf-8")
        os.replace(new, path)

    def all(self, kind: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Name, recipe and result of everything called `kind.…`, whatever made it."""
        for path in sorted(self.folder.glob(f"{kind}.*.json")):
            found = self._read(path)
            if found is not None:
                yield path.stem, found["recipe"], found["result"]

    def forget(self, pattern: str) -> list[str]:
        """Remove the results whose names match a shell pattern; gives their names."""
        found = sorted(self.folder.glob(f"{pattern}.json"))
        for path in found:
            path.unlink()
        return [path.stem for path in found]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise SystemExit(f"{path} is no result ({error}); remove it and start again.") from error
        return content


def _plain(recipe: Mapping[str, Any]) -> Any:
    """The recipe as it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(recipe))


def source_fingerprint(package: str) -> str:
    """Eight digits that tell one state of an installed package's code from another."""
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed in this environment.")
    digest = hashlib.sha256()
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
