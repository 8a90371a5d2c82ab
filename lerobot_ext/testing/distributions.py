# SPDX-License-Identifier: Apache-2.0
"""Writes installed-looking distributions into a folder: plugin discovery is tested without pip."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def write_distribution(
    folder: Path,
    name: str,
    *,
    version: str = "0.1.0",
    modules: Mapping[str, str] | None = None,
    entry_points: Mapping[str, Mapping[str, str]] | None = None,
    requires: Sequence[str] = (),
) -> Path:
    """Lay out one distribution as pip would have installed it; put `folder` on `sys.path` to install it.

    Args:
        folder (`Path`): Stands for `site-packages`; created when missing.
        name (`str`): Distribution name, written to the metadata as given.
        version (`str`, *optional*, defaults to `"0.1.0"`): Its version.
        modules (`Mapping[str, str]`, *optional*): Source text by dotted name. A name with submodules becomes
            a package.
        entry_points (`Mapping[str, Mapping[str, str]]`, *optional*): Entry points by group, then by name.
        requires (`Sequence[str]`, *optional*): `Requires-Dist` lines.

    Returns:
        The `.dist-info` folder; deleting it uninstalls the distribution.

    Raises:
        FileExistsError: The distribution is there already, in this version.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if entry_points:
        sections = [
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
            for group, entries in entry_points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(sections), encoding="utf-8")
    for dotted, source in (modules or {}).items():
        _write_module(folder, dotted, source)
    return info


def _write_module(folder: Path, dotted: str, source: str) -> None:
    """Write `source` as package `dotted`, with empty parents where there are none."""
    package = folder
    for part in dotted.split("."):
        package = package / part
        package.mkdir(exist_ok=True)
        init = package / "__init__.py"
        if not init.exists():
            init.write_text("", encoding="utf-8")
    (package / "__init__.py").write_text(source, encoding="utf-8")
