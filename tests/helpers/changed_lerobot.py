# SPDX-License-Identifier: Apache-2.0
"""A LeRobot of another version, made of links to the installed one and of a few changed files."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path


def put_changed_lerobot(place: Path, version: str, changes: Mapping[str, tuple[str, str]]) -> None:
    """Put a LeRobot of another version into a folder, with some of its source changed.

    Args:
        place (`Path`): The folder, on an environment's path; must not hold LeRobot.
        version (`str`): The version it claims; LeRobot reads its own from its metadata.
        changes (`Mapping[str, tuple[str, str]]`): By file below the package: text to replace, and by what.
    """
    distribution = metadata.distribution("lerobot")
    stock = Path(str(distribution.locate_file("lerobot")))
    folders = {Path(), *(parent for file in changes for parent in Path(file).parents)}
    for folder in sorted(folders, key=lambda path: len(path.parts)):
        _link_all(stock / folder, place / "lerobot" / folder)
    for file, (old, new) in changes.items():
        text = (stock / file).read_text()
        assert old in text, f"{file} has no {old!r} to change"
        (place / "lerobot" / file).unlink()
        (place / "lerobot" / file).write_text(text.replace(old, new))
    info = place / f"lerobot-{version}.dist-info"
    info.mkdir()
    described = distribution.read_text("METADATA")
    changed = described.replace(f"\nVersion: {distribution.version}\n", f"\nVersion: {version}\n")
    assert changed != described
    (info / "METADATA").write_text(changed)


def _link_all(source: Path, target: Path) -> None:
    """Make `target` a folder of links to what `source` holds, but bytecode: some files will differ."""
    if target.is_symlink():
        target.unlink()
    target.mkdir()
    for entry in source.iterdir():
        if entry.name != "__pycache__":
            (target / entry.name).symlink_to(entry)
