# SPDX-License-Identifier: Apache-2.0
"""Makes a virtual environment with another LeRobot: with uv where it is there, else with venv and pip."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from lerobot_ext.cli.command import CommandError
from lerobot_ext.guard.plugins import Needs, pins
from lerobot_ext.guard.target import Target

_LIMIT_S: Final = 3600.0
Watcher = Callable[[str], None]


class Installer:
    """Creates an environment and installs into it; with uv, or with venv and pip.

    Args:
        folder (`Path`): Where the environment is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uv = _find_uv()
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.python = folder / scripts / ("python.exe" if os.name == "nt" else "python")

    def create(self) -> None:
        """Make the environment, with this process's Python."""
        if self.uv:
            self._must(
                "make an environment", self.uv, "venv", "-q", "--python", sys.executable, str(self.folder)
            )
        else:
            self._must("make an environment", sys.executable, "-m", "venv", str(self.folder))

    def wheel(self, sources: Path, out: Path) -> Path:
        """Build the wheel of a folder of sources.

        Args:
            sources (`Path`): The folder.
            out (`Path`): Where the wheel goes; one that is there already is not mistaken for it.
        """
        mine = out / f"{len(list(out.iterdir())) if out.is_dir() else 0}"
        task = f"build {sources.name}"
        if self.uv:
            words = [self.uv, "build", "-q", "--wheel", "--python", sys.executable, "--out-dir", str(mine)]
            self._must(task, *words, str(sources))
        else:
            words = [str(self.python), "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(mine)]
            self._must(task, *words, str(sources))
        [wheel] = mine.glob("*.whl")
        return wheel

    def install(self, *words: str) -> None:
        """Install; raises when it cannot."""
        self._must("install", *self._pip("install"), *words)

    def tries_to_install(self, *words: str) -> bool:
        """Install; whether it worked."""
        return self._run(*self._pip("install"), *words).returncode == 0

    def _pip(self, action: str) -> list[str]:
        if self.uv:
            return [self.uv, "pip", action, "-q", "--compile-bytecode", "--python", str(self.python)]
        return [str(self.python), "-m", "pip", action, "-q"]

    def _must(self, task: str, *words: str) -> None:
        ran = self._run(*words)
        if ran.returncode:
            said = "; ".join(line.strip() for line in ran.stderr.splitlines() if line.strip())
            raise CommandError(
                f"could not {task}: {said[-1500:] or f'status {ran.returncode}'}",
                "the first lines name the package that stands in the way; offline, what is needed must be in "
                "the cache of uv or pip",
            )

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(words, 1, "", f"it did not end within {_LIMIT_S:.0f} s")


def make_environment(folder: Path, target: Target, needs: Needs, watch: Watcher) -> tuple[Path, list[str]]:
    """Make an environment with LeRobot `target` and the plugins.

    Everything else gets the versions of this environment, if LeRobot agrees; else what the installer chooses.

    Args:
        folder (`Path`): Where it is made; must not hold anything.
        target (`Target`): The LeRobot.
        needs (`Needs`): The rest.
        watch (`Watcher`): Told what is going on.

    Returns:
        Its interpreter, and notes for the report.

    Raises:
        CommandError: It cannot be made; the message has the installer's reason.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    installer = Installer(folder)
    watch("making an environment")
    installer.create()
    requirements = [target.requirement(needs.extras), *needs.others]
    pinned = folder / "as-here.txt"
    pinned.write_text("\n".join(pins(source.name for source in needs.sources)) + "\n", encoding="utf-8")
    watch(f"installing {target.requirement(set())}")
    notes = []
    if not installer.tries_to_install("--constraint", str(pinned), *requirements):
        watch(f"installing {target.requirement(set())}, with other versions of the rest")
        installer.install(*requirements)
        notes.append(
            "with the versions installed here this LeRobot could not be installed: other packages differ too"
        )
    watch("installing the plugins")
    wheels = folder / "wheels"
    plugins = [
        str(installer.wheel(source.folder, wheels)) if source.folder else source.requirement
        for source in needs.sources
    ]
    installer.install("--no-deps", *plugins)
    return installer.python, notes


def window_notes(needs: Needs, installed: str) -> list[str]:
    """A note for each plugin whose own requirement rules the LeRobot that is tried out.

    Args:
        needs (`Needs`): Who asks for which versions.
        installed (`str`): The version that was installed all the same.
    """
    from packaging.specifiers import SpecifierSet

    return [
        f"{name} asks for lerobot{window}; the guard installed it all the same"
        for name, window in sorted(needs.windows.items())
        if not SpecifierSet(window).contains(installed, prereleases=True)
    ]


def _find_uv() -> str | None:
    """A uv that runs: a version manager's stand-in may be on the path without one."""
    candidates: Sequence[str | None] = (os.environ.get("UV"), shutil.which("uv"))
    for found in candidates:
        if found and subprocess.run([found, "--version"], capture_output=True).returncode == 0:
            return found
    return None
