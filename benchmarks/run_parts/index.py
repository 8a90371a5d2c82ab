# SPDX-License-Identifier: Apache-2.0
"""`docs/results/README.md`: what is kept of each suite, and where other figures of our pages come from."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from run_parts import kept, quoted
from run_parts.suites import SUITES, Suite, cost

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
HEAD = """\
# Results

What each benchmark found last, as it said it itself, with the command and the day; a file beside this page
holds the figures. `uv run python benchmarks/run.py --suite full --write-docs` runs all of them and writes
files and page; `--only startup` runs some, `--suite quick` only shows that they work, and `--take` keeps
figures that a benchmark measured by itself. Blocks and tables of our pages that are made of these figures are
compared with them by `tests/benchmarks/test_results.py`. This page is written by the same program.
"""
COST = """\
On two shared cores, rounded, as the last full runs took: {} No graphics card is used. A run that is stopped \
goes on where it was; `--suite quick` shows within minutes that all of them work."""
QUOTED_HEAD = """\
## Figures in sentences and tables by hand

`quoted_figures.json` lists what else our pages say in figures: those that a file here holds, those that were
read off what a command printed on that day, and those that others published. A test finds a figure on a page
that is in none of them. What looks like a measurement and is none, such as a time limit, is in that file with
the reason. Code blocks, which show what a command may print, and the changelog are not looked at.

| page | figures | from | measured |
|---|---|---|---|
"""
SHOWN = 90
"""Characters of a quote in the index; the file has all of it."""


def page(folder: Path = kept.RESULTS) -> str:
    """The index of a folder of results."""
    parts = [HEAD, "| benchmark | last line | measured | command |", "|---|---|---|---|"]
    entries = {suite.name: kept.read(suite.name, folder) for suite in SUITES}
    parts += [_row(suite, entries[suite.name]) for suite in SUITES]
    parts += ["", "## What a full run costs", "", textwrap.fill(COST.format(cost(SUITES)), 115), ""]
    parts += ["| suite | a full run takes |", "|---|---|"]
    parts += [f"| `{suite.name}` | {suite.about} |" for suite in SUITES]
    parts += ["", "## Where they were measured", ""]
    parts += [f"- {name}: {_machine(entry['machine'])}." for name, entry in entries.items() if entry]
    parts += ["", QUOTED_HEAD.rstrip("\n")]
    parts += [_quoted_row(one, entries) for one in quoted.sources(folder) if "given" not in one]
    return "\n".join([*parts, ""])


def write(folder: Path = kept.RESULTS) -> Path:
    """Write the index."""
    path = folder / "README.md"
    path.write_text(page(folder), encoding="utf-8")
    return path


def _quoted_row(one: quoted.Source, entries: dict[str, dict[str, Any] | None]) -> str:
    shown = "; ".join(_cell(textwrap.shorten(quote, SHOWN, placeholder=" …")) for quote in one["quotes"])
    place = f"[{one['page']}](../../{one['page']})"
    if "suite" in one:
        entry = entries[one["suite"]] or {"measured": "not kept"}
        return f"| {place} | {shown} | [`{one['suite']}`]({one['suite']}.json) | {entry['measured']} |"
    if "published" in one:
        return f"| {place} | {shown} | {one['published']} | |"
    return f"| {place} | {shown} | `{one['command']}` | {one['measured']} |"


def _row(suite: Suite, entry: dict[str, Any] | None) -> str:
    name = f"`{suite.name}`"
    if entry is None:
        return f"| {name}: {suite.measures} | not kept | | `{suite.command()}` |"
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
