# SPDX-License-Identifier: Apache-2.0
"""Results in one JSON file, kept after each measurement, so that an interrupted run can go on."""

import json
from pathlib import Path
from typing import Any


class Store:
    """Results by key.

    Args:
        path (`Path`): The JSON file.
        resume (`bool`): Go on with what it holds; else begin anew.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self._content: dict[str, Any] = {"machine": [], "cells": {}}
        if resume and path.exists():
            try:
                self._content = json.loads(path.read_text())
            except ValueError as error:
                raise SystemExit(f"{path} cannot be read ({error}); run without --resume.") from None

    def holds(self, key: str, settings: dict[str, Any]) -> bool:
        """Whether a result for `key` with the same settings is there."""
        cell = self._content["cells"].get(key)
        # As JSON gives them back: a tuple has become a list.
        return cell is not None and cell["settings"] == json.loads(json.dumps(settings))

    def put(self, key: str, settings: dict[str, Any], result: dict[str, Any]) -> None:
        """Keep one result."""
        self._content["cells"][key] = {"settings": settings, "result": result}
        self._save()

    def note_machine(self, description: dict[str, Any]) -> None:
        """Remember on what machine, and under what conditions, (a part of) the results came about."""
        self._content["machine"].append(description)
        self._save()

    def put_summary(self, summary: dict[str, Any]) -> None:
        """Keep what the tables show."""
        self._content["summary"] = summary
        self._save()

    @property
    def machine(self) -> list[dict[str, Any]]:
        """What `note_machine` was told, oldest first."""
        machine: list[dict[str, Any]] = self._content["machine"]
        return machine

    def results(self, part: str, case: str, contestant: str) -> list[tuple[str, dict[str, Any]]]:
        """Key and result of every measurement `part/case/contestant/…`, by index."""
        prefix = f"{part}/{case}/{contestant}/"
        found = [
            (key, cell["result"]) for key, cell in self._content["cells"].items() if key.startswith(prefix)
        ]
        return sorted(found, key=lambda item: int(item[0].rpartition("/")[2]))

    def cases(self, part: str) -> list[str]:
        """Cases of `part` that were measured, in the order in which they came."""
        keys = [key.split("/") for key in self._content["cells"]]
        return list(dict.fromkeys(key[1] for key in keys if key[0] == part))

    def _save(self) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self._content, indent=1))
        part.replace(self.path)
