# SPDX-License-Identifier: Apache-2.0
"""Wheels, and clean environments to install them into: a plugin is tested as its users get it.

An environment holds nothing but what a test installs. What that depends on comes from the environment of the
test itself, through a folder of links to its site-packages: nothing is downloaded, and it takes a second.
"""

import base64
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Mapping
from email import message_from_string
from email.message import Message
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.utils import canonicalize_name

from lerobot_ext.origins import folder_of, is_editable

_TIMEOUT_S = 300.0


class CommandFailedError(RuntimeError):
    """A command ended badly; the message shows what it wrote."""


def run(*command: object, **options: object) -> str:
    """Run a command and wait for it.

    Args:
        *command (`object`): Its words.
        **options (`object`): For `subprocess.run`, such as `env`.

    Returns:
        What it wrote to standard output.

    Raises:
        CommandFailedError: It ended with another status than 0.
    """
    words = [str(word) for word in command]
    ran = subprocess.run(  # type: ignore[call-overload]
        words, capture_output=True, text=True, timeout=_TIMEOUT_S, **options
    )
    if ran.returncode != 0:
        shown = " ".join(word if len(word) < 200 else "…" for word in words)
        raise CommandFailedError(f"{shown}\n{ran.stdout[-2000:]}\n{ran.stderr[-3000:]}")
    return str(ran.stdout)


@functools.cache
def uv() -> str | None:
    """The `uv` command, if it is there: it builds and installs several times faster than pip.

    It is tried: a version manager may put a stand-in on the path that only says where to get it.
    """
    for found in (os.environ.get("UV"), shutil.which("uv")):
        if found and subprocess.run([found, "--version"], capture_output=True).returncode == 0:
            return found
    return None


def can_install() -> bool:
    """Whether there is a command that installs wheels into another environment."""
    return uv() is not None or find_spec("pip") is not None


def clean_variables() -> dict[str, str]:
    """This process's environment variables without what would lead back to the source tree."""
    unwanted = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return kept | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


# ---- wheels


def build_wheel(project: Path, out: Path) -> Path:
    """Build the wheel of a source tree.

    Args:
        project (`Path`): Folder with its `pyproject.toml`.
        out (`Path`): Folder for the wheel; it must not hold one of the same distribution.
    """
    before = set(out.glob("*.whl"))
    if uv():
        run(uv(), "build", "--wheel", "--python", sys.executable, "--out-dir", out, project)
    else:
        run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", out, project)
    [wheel] = set(out.glob("*.whl")) - before
    return wheel


def source_folder(distribution: metadata.Distribution) -> Path | None:
    """The source tree of a distribution that is installed editable; else None."""
    return folder_of(distribution) if is_editable(distribution) else None


def repack_wheel(distribution: metadata.Distribution, out: Path) -> Path:
    """The wheel of a distribution as it is installed: its files, without what the installation added.

    Args:
        distribution (`Distribution`): Installed, not editable.
        out (`Path`): Folder for the wheel.
    """
    added = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}
    files = {
        str(file): Path(str(distribution.locate_file(file))).read_bytes()
        for file in distribution.files or []
        if file.name not in added and "__pycache__" not in file.parts and ".." not in file.parts
    }
    return write_wheel(out, distribution.metadata["Name"], distribution.version, files)


def write_wheel(out: Path, name: str, version: str, files: Mapping[str, bytes]) -> Path:
    """Write a wheel of pure Python with `files` by path; `RECORD` is added, `WHEEL` where there is none."""
    stem = f"{name.replace('-', '_')}-{version}"
    wheel = b"Wheel-Version: 1.0\nGenerator: lerobot_ext\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents = {f"{stem}.dist-info/WHEEL": wheel, **files}
    lines = []
    for path, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}")
    lines.append(f"{stem}.dist-info/RECORD,,")
    found = out / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(found, "w") as archive:
        for path, data in contents.items():
            archive.writestr(path, data)
        archive.writestr(f"{stem}.dist-info/RECORD", "\n".join(lines) + "\n")
    return found


class Wheel:
    """What a wheel says of itself.

    Args:
        path (`Path`): The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with zipfile.ZipFile(path) as archive:
            self.files = [name for name in archive.namelist() if not name.endswith("/")]
            info = next(name for name in self.files if name.endswith(".dist-info/METADATA"))
            self.info = info.partition("/")[0]
            self.metadata: Message = message_from_string(archive.read(info).decode())
            points = f"{self.info}/entry_points.txt"
            self.entry_points = archive.read(points).decode() if points in self.files else ""

    @property
    def name(self) -> str:
        """Its distribution's name exactly as in the metadata: LeRobot compares that."""
        return str(self.metadata["Name"] or "")

    @property
    def packages(self) -> list[str]:
        """Its top-level packages."""
        return sorted({path.partition("/")[0] for path in self.files if path.count("/") == 1} - {self.info})

    @property
    def requires(self) -> list[str]:
        """Its `Requires-Dist` lines."""
        return [str(line) for line in self.metadata.get_all("Requires-Dist") or []]


# ---- environments


class Environment:
    """A virtual environment with what is installed into it, on top of linked dependencies.

    Args:
        folder (`Path`): Empty; holds the environment and the links.
        without (`Iterable[str]`): Names of distributions that are not linked: those under test.
    """

    def __init__(self, folder: Path, without: Iterable[str]) -> None:
        self.folder = folder / "venv"
        run(sys.executable, "-m", "venv", "--without-pip", self.folder)
        self.python = self.folder / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.site = self.folder / "lib" / version / "site-packages"
        linked = folder / "dependencies"
        link_dependencies(linked, without)
        (self.site / "dependencies.pth").write_text(f"{linked}\n", encoding="utf-8")

    def install(self, *wheels: Path) -> None:
        """Install wheels, and nothing that they depend on."""
        self._pip("install", "--no-deps", *wheels)

    def uninstall(self, name: str) -> None:
        """Uninstall a distribution."""
        self._pip("uninstall", *([] if uv() else ["-y"]), name)

    def _pip(self, action: str, *rest: object) -> None:
        if uv():
            options = ["--offline", "--no-index"] if action == "install" else []
            run(uv(), "pip", action, "--python", self.python, *options, *rest)
        else:
            run(sys.executable, "-m", "pip", "--python", self.python, action, *rest)

    def files(self) -> set[str]:
        """Everything installed, bytecode left out."""
        paths = (path.relative_to(self.site) for path in self.site.rglob("*") if path.is_file())
        return {str(path) for path in paths if "__pycache__" not in path.parts}

    def run(self, program: str, *arguments: str) -> str:
        """Run a Python program in a new interpreter of the environment; what it prints."""
        return run(self.python, "-c", program, *arguments, env=clean_variables())


def link_dependencies(folder: Path, without: Iterable[str]) -> None:
    """Link all that this environment has installed, except the distributions `without`, into `folder`."""
    folder.mkdir(parents=True)
    names = {canonicalize_name(name) for name in without}
    left_out: set[str] = set()
    for distribution in metadata.distributions():
        if canonicalize_name(distribution.metadata["Name"] or "") in names:
            left_out |= {file.parts[0] for file in distribution.files or [] if ".." not in file.parts}
            left_out.add(Path(str(getattr(distribution, "_path", ""))).name)
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        # Path files act in site-packages only; in a linked folder they would do nothing anyway.
        if entry.name not in left_out and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
