# SPDX-License-Identifier: Apache-2.0
"""Makes a virtual environment with another LeRobot: with uv where it is there, else with venv and pip."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lerobot_ext.cli.command import CommandError
from lerobot_ext.guard.plugins import Needs, pins
from lerobot_ext.guard.target import Target
from lerobot_ext.testing.contracts.discovery import wheel_of
from lerobot_ext.testing.environments import CommandFailedError, uv

_LIMIT_S: Final = 3600.0
Watcher = Callable[[str], None]


class Installer:
    """Creates an environment and installs into it; with uv, or with venv and pip.

    Args:
        folder (`Path`): Where the environment is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uv = uv()
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

    def install(self, *words: str) -> None:
        """Install; raises when it cannot."""
        self._must("install", *self._pip("install"), *words)

    def tries_to_install(self, *words: str) -> bool:
        """Install; whether it worked."""
        return self._run(*self._pip("install"), *words).returncode == 0

    def _pip(self, action: str) -> list[str]:
        # Bytecode is made of what is imported, at the first import: that is a tenth of what is installed.
        if self.uv:
            return [self.uv, "pip", action, "-q", "--no-compile-bytecode", "--python", str(self.python)]
        return [str(self.python), "-m", "pip", action, "-q", "--no-compile"]

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
    pinned.write_text("\n".join(pins(needs.distributions)) + "\n", encoding="utf-8")
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
    wheels.mkdir()
    try:
        plugins = [str(wheel_of(name, wheels)) for name in needs.distributions]
    except CommandFailedError as error:
        said = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise CommandError(f"could not build the wheel of a plugin: {said}", "mend its build") from error
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
