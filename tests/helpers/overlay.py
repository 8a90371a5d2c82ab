# SPDX-License-Identifier: Apache-2.0
"""Environments on top of this one, made of links: another LeRobot, fewer plugins, nothing downloaded."""

import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

SITE = Path(sysconfig.get_paths()["purelib"])


def make_overlay(
    folder: Path, *, without: Iterable[str] = (), paths: Iterable[Path] = ()
) -> tuple[Path, Path]:
    """A virtual environment that has this one's packages by links.

    Args:
        folder (`Path`): Where it is made.
        without (`Iterable[str]`): Beginnings of names in site-packages that are left out.
        paths (`Iterable[Path]`): Folders to import from besides, for what is installed editable here.

    Returns:
        Its interpreter, and the folder of links, to which more may be added.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    links = folder / "links"
    link_all(SITE, links, without=(*without, "_virtualenv"))
    lines = [str(links), *map(str, paths)]
    site = folder / "venv" / "lib" / version / "site-packages"
    (site / "overlay.pth").write_text("\n".join(lines) + "\n")
    return folder / "venv" / "bin" / "python", links


def link_all(source: Path, target: Path, *, without: Iterable[str] = ()) -> None:
    """Make `target` a folder of links to what `source` holds; bytecode and path files are left out."""
    target.mkdir()
    for entry in source.iterdir():
        left_out = entry.name.startswith(tuple(without)) or entry.suffix == ".pth"
        if not left_out and entry.name != "__pycache__":
            (target / entry.name).symlink_to(entry)


def add_changed_lerobot(links: Path, version: str, changes: Mapping[str, tuple[str, str]]) -> None:
    """Put a LeRobot of another version into a folder of links, with some of its source changed.

    Args:
        links (`Path`): The folder; must not hold LeRobot.
        version (`str`): The version it claims; LeRobot reads its own from its metadata.
        changes (`Mapping[str, tuple[str, str]]`): By file below the package: text to replace, and by what.
    """
    stock = SITE / "lerobot"
    folders = {Path(), *(parent for file in changes for parent in Path(file).parents)}
    for folder in sorted(folders, key=lambda path: len(path.parts)):
        place = links / "lerobot" / folder
        if place.is_symlink():
            place.unlink()
        link_all(stock / folder, place)
    for file, (old, new) in changes.items():
        text = (stock / file).read_text()
        assert old in text, f"{file} has no {old!r} to change"
        (links / "lerobot" / file).unlink()
        (links / "lerobot" / file).write_text(text.replace(old, new))
    info = links / f"lerobot-{version}.dist-info"
    info.mkdir()
    distribution = metadata.distribution("lerobot")
    described = distribution.read_text("METADATA")
    (info / "METADATA").write_text(
        described.replace(f"\nVersion: {distribution.version}\n", f"\nVersion: {version}\n")
    )
