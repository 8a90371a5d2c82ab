# SPDX-License-Identifier: Apache-2.0
"""`docs/results/README.md`: what is kept of each suite, and where the figures of README.md come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from run_parts import kept
from run_parts.suites import SUITES, Suite

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
README_FIGURES = "readme_figures.json"
HEAD = """\
# Results

What each benchmark found last, as it said it itself, with the command and the day; a file beside this page
holds the figures. `uv run python benchmarks/run.py --suite full --write-docs` runs all of them and writes
files and page; `--only startup` runs some, `--suite quick` only shows that they work, and `--take` keeps
figures that a benchmark measured by itself. Blocks and tables of our pages that are made of these figures are
compared with them by `tests/benchmarks/test_results.py`. This page is written by the same program.
"""
HAND_HEAD = """\
## Figures of README.md

`readme_figures.json` lists them: those that a file here holds, and those that were read off what a command
printed on that day.

| figures | from | measured |
|---|---|---|
"""


NOT_COMPARED = """\
## Not compared

Figures on other pages whose measurement left no file, or that stand in sentences: those of
[`convert`](../offline_data.md), [`recording`](../recording.md), [`trainer_overhead`](../training.md) and
[`episode_journal`](../../README.md#a-recording-that-was-cut-off); the table of paced frames of
[`lerobot_robot_koch`](../../robots/lerobot_robot_koch/README.md#what-it-is-worth), whose column of ours is of
a later run; single trainings told in the READMEs of the policies; what the
[conformance kit](../conformance.md#what-it-finds) finds. Their pages tell command and day.
"""


def page(folder: Path = kept.RESULTS) -> str:
    """The index of a folder of results."""
    parts = [HEAD, "| benchmark | last line | measured | command |", "|---|---|---|---|"]
    entries = {suite.name: kept.read(suite.name, folder) for suite in SUITES}
    parts += [_row(suite, entries[suite.name]) for suite in SUITES]
    parts += ["", "## Where they were measured", ""]
    parts += [f"- {name}: {_machine(entry['machine'])}." for name, entry in entries.items() if entry]
    parts += ["", HAND_HEAD.rstrip("\n")]
    parts += [_readme_row(one, entries) for one in readme_figures(folder)]
    return "\n".join([*parts, "", NOT_COMPARED])


def write(folder: Path = kept.RESULTS) -> Path:
    """Write the index."""
    path = folder / "README.md"
    path.write_text(page(folder), encoding="utf-8")
    return path


def readme_figures(folder: Path = kept.RESULTS) -> list[dict[str, str]]:
    """What README.md says in figures: `quote`, and `suite` or `command` and `measured`."""
    path = folder / README_FIGURES
    found: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return found


def _readme_row(one: dict[str, str], entries: dict[str, dict[str, Any] | None]) -> str:
    if "suite" in one:
        entry = entries[one["suite"]] or {"measured": "not kept"}
        return f"| {_cell(one['quote'])} | [`{one['suite']}`]({one['suite']}.json) | {entry['measured']} |"
    return f"| {_cell(one['quote'])} | `{one['command']}` | {one['measured']} |"


def _row(suite: Suite, entry: dict[str, Any] | None) -> str:
    name = f"`{suite.name}`"
    if entry is None:
        return f"| {name}: {suite.measures} | not kept | | `{suite.command()}` ({suite.about}) |"
    link = f"[{name}]({suite.name}.json): {suite.measures}"
    if (IMAGES / f"{suite.name}.png").exists():
        link += f" ([picture](../images/{suite.name}.png))"
    return f"| {link} | {_cell(entry['last_line'])} | {entry['measured']} | `{entry['command']}` |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _machine(about: dict[str, Any]) -> str:
    """A machine in words, as far as it was recorded."""
    plain = {key: value for key, value in about.items() if key not in ("versions", "note", "load")}
    said = [f"{key} {value}" for key, value in plain.items() if not isinstance(value, (dict, list))]
    load: Sequence[float] = about.get("load") or []
    said += [f"load {load[0]:.1f} at the start"] if load else []
    said += [f"{name} {version}" for name, version in about.get("versions", {}).items()]
    return ", ".join([*said, *([about["note"]] if "note" in about else [])])
