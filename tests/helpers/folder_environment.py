# SPDX-License-Identifier: Apache-2.0
"""A clean environment without an interpreter of its own: many are tried in the time one venv takes."""

import json
import shutil
import sys
import sysconfig
import unittest
import zipfile
from pathlib import Path

from lerobot_ext.testing.contracts.fresh import run_fresh
from lerobot_ext.testing.environments import CommandFailedError, link_dependencies


class FolderEnvironment:
    """Wheels unpacked into a folder; programs run in forks of a process that has imported LeRobot."""

    def __init__(self, folder: Path, without) -> None:
        self.folder, self.site = folder, folder / "site"
        self.site.mkdir(parents=True)
        link_dependencies(folder / "dependencies", without)

    def install(self, *wheels: Path) -> None:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(self.site)

    def uninstall(self, name: str) -> None:
        """Removes what RECORD lists, like pip."""
        [record] = self.site.glob(f"{name.replace('-', '_')}-*.dist-info/RECORD")
        for line in record.read_text().splitlines():
            (self.site / line.split(",")[0]).unlink()
        for folder in sorted((f for f in self.site.rglob("*") if f.is_dir()), reverse=True):
            if not any(f.name != "__pycache__" for f in folder.iterdir()):
                shutil.rmtree(folder)

    def files(self) -> set[str]:
        paths = (path.relative_to(self.site) for path in self.site.rglob("*") if path.is_file())
        return {str(path) for path in paths if "__pycache__" not in path.parts}

    def run(self, program: str, *arguments: str) -> str:
        if "first" in arguments:
            raise unittest.SkipTest("its processes begin with LeRobot imported")
        paths = sysconfig.get_paths()
        standard = [p for p in sys.path if p.startswith(paths["stdlib"]) and "site-packages" not in p]
        path = [str(self.site), *standard, str(self.folder / "dependencies")]
        request = {"program": program, "arguments": arguments, "path": path}
        (self.folder / "program.json").write_text(json.dumps(request))
        answer = run_fresh("run_program", self.folder)
        if "error" in answer:
            raise CommandFailedError(answer["error"] + answer["trace"])
        return answer["said"]
