# SPDX-License-Identifier: Apache-2.0
"""Figures as `docs/results` keeps them: one JSON file a suite, small, with command, day and machine."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from run_parts.suites import Suite

RESULTS = Path(__file__).parents[2] / "docs" / "results"
LARGEST = 40_000
"""Bytes of a file: what is longer belongs beside the run, not into the repository."""
DIGITS = 9
"""Significant digits: far more than any table prints."""
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "act_plus": ("cells",),
    "koch_bus": ("cells",),
    "recording": ("runs", "codec"),
    "startup": ("timings",),
}
"""By suite, what its tables and its last line do without: single episodes, frames, runs."""

_SOMEWHERE = re.compile(r"(?<![\w.…])/(?:home|Users|root|tmp|var|work|mnt|opt)/\S*")
Json = Any


def figures_in(suite: Suite, folder: Path) -> Json:
    """What a run wrote into its folder, or into `quick` in it.

    Raises:
        FileNotFoundError: It wrote nothing.
    """
    pattern = suite.figures or f"{suite.name}.json"
    found = sorted(folder.glob(pattern)) or sorted((folder / "quick").glob(pattern))
    if not found:
        raise FileNotFoundError(f"{folder} holds no {pattern}")
    return read_figures(suite, found)


def read_figures(suite: Suite, files: list[Path]) -> Json:
    """The figures in one file, or of several by what the `*` of the suite's pattern stands for."""
    contents = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in files}
    if "*" not in suite.figures:
        [content] = contents.values()
        return content
    before, after = suite.figures.split("*")
    return {name.removeprefix(before).removesuffix(after): content for name, content in contents.items()}


def trimmed(suite: Suite, figures: Json) -> Json:
    """The figures without what is left out of this suite's, and rounded."""
    if isinstance(figures, dict):
        figures = {key: value for key, value in figures.items() if key not in LEFT_OUT.get(suite.name, ())}
    return _rounded(figures)


def _rounded(value: Json) -> Json:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def entry(
    suite: Suite, figures: Json, *, command: str, measured: str, machine: Json, last_line: str
) -> dict[str, Any]:
    """What is kept of a suite."""
    return {
        "suite": suite.name,
        "command": command,
        "measured": measured,
        "machine": machine,
        "last_line": last_line,
        "figures": trimmed(suite, figures),
    }


def text_of(kept: dict[str, Any]) -> str:
    """The file, one line a value, but lists of plain values in one line.

    Raises:
        ValueError: It is too large, or names a folder of the machine that measured it.
    """
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    text = (
        re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: f"[{re.sub(r',\s+', ', ', found[1])}]", text) + "\n"
    )
    size = len(text.encode())
    if size > LARGEST:
        parts = kept["figures"].items() if isinstance(kept["figures"], dict) else []
        sizes = sorted(((len(json.dumps(value)), key) for key, value in parts), reverse=True)[:3]
        raise ValueError(
            f"the figures of {kept['suite']} take {size} bytes, more than {LARGEST}; name what its tables do "
            f"without in LEFT_OUT (largest: {', '.join(f'{key} {n}' for n, key in sizes)})."
        )
    place = _SOMEWHERE.search(text)
    if place:
        raise ValueError(f"the figures of {kept['suite']} name {place[0]}, which is a place on one machine.")
    return text


def write(kept: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Keep a suite's figures; a reader never sees half of the file."""
    text = text_of(kept)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kept['suite']}.json"
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
    return path


def read(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """What is kept of a suite, if anything is."""
    try:
        found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found
