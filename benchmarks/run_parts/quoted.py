# SPDX-License-Identifier: Apache-2.0
"""Figures that stand in sentences and hand-made tables of our pages, and where each of them comes from.

`docs/results/quoted_figures.json` holds a list of sources. Each has a `page`, the `quotes` that it answers
for (the page's own words, gaps as one space), and one of

- `suite`: a benchmark whose kept figures hold the numbers;
- `command` and `measured`: what printed them, and the day;
- `published`: who measured them, where it was not us;
- `given`: why they are no measurement though they look like one, such as a time limit.

A page's figures are what `MEASURED` finds, and cells that are nothing but numbers in tables that are not of
settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from run_parts import front, kept
from run_parts.quotes import ROUNDED, quotes

NAME = "quoted_figures.json"
SOURCES = ("suite", "command", "published", "given")
Source = dict[str, Any]

MEASURED = re.compile(
    r"(?<![\w.])\d[\d,]*(?:\.\d+)? ?"
    r"(?:%|x\b(?! ?\d)|倍|毫秒|秒|分钟"
    r"|(?:times|(?:CPU )?ms(?! of all)|µs|s|seconds|min|minutes|hours|dB|points of|samples/s)\b)"
    r"|(?<![\w.])\d+\.\d+ ?[GM]i?B\b"
    r"|\b\d[\d,]*(?:/| of | / )\d[\d,]*\b(?! ?s\b)"
)
"""What a measurement looks like; sizes as 640x480 or 96 x 96 are none."""
_NO_MEASUREMENT = re.compile(r"(?:\(95 %\)|95 %(?=,? (?:Wilson|interval|over|区间)))")
_BARE = re.compile(r"[\s\d.,±()~*-]*\d[\s\d.,±()~*-]*")
_SETTINGS = ("default", "默认", "shape", "形状", "recipe", "range", "exit status", "LeRobot | Python")
"""Words in the head of a table of settings."""


def sources(folder: Path = kept.RESULTS) -> list[Source]:
    """What is listed, page by page."""
    path = folder / NAME
    found: list[Source] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return found


def without_generated(page: str, text: str) -> str:
    """A page's text without what `quotes` compares: generated blocks, and tables of a suite's figures."""
    for quote in quotes():
        if quote.page != page:
            continue
        entry = kept.read(quote.suite)
        pieces = [quote.block()] if quote.begin else quote.texts(entry) if entry else []
        for piece in pieces:
            text = text.replace(piece.strip(), "")
    if page == front.README.name:
        text = text.replace(front.table(), "")
    heads = tuple(table.head for table in ROUNDED if table.page == page)
    return _TABLE.sub(lambda found: "\n" if heads and found[0].startswith(heads) else found[0], text)


_TABLE = re.compile(r"(?:^\|[^\n]*\n)+", re.MULTILINE)


def figures(text: str) -> Iterator[tuple[int, int]]:
    """Where a text says something that looks like a measurement, by offsets; inline code says nothing."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", lambda found: "·" * len(found[0]), text)
    text = _NO_MEASUREMENT.sub(lambda found: "·" * len(found[0]), text)
    yield from (found.span() for found in MEASURED.finditer(text))
    for table in _TABLE.finditer(text):
        head, *rows = table[0].splitlines(keepends=True)
        at = table.start() + len(head)
        for row in rows if not any(word in head for word in _SETTINGS) else []:
            for cell in re.finditer(r"(?<=\|)[^|\n]+(?=\|)", row):
                if _BARE.fullmatch(cell[0]):
                    yield at + cell.start(), at + cell.end()
            at += len(row)


def unlisted(text: str, listed: list[str]) -> list[str]:
    """Figures of a text, each with what stands around it, that are in none of the quotes."""
    starts, one_line = _squeezed(text)
    places = [
        found.span()
        for quote in listed
        for found in re.finditer(re.escape(" ".join(quote.split())), one_line)
    ]
    found = []
    for begin, end in figures(text):
        here, there = starts[begin], starts[end]
        while one_line[here] == " ":
            here += 1
        while one_line[there - 1] == " ":
            there -= 1
        if not any(start <= here and there <= stop for start, stop in places):
            found.append(one_line[max(0, here - 60) : there + 40])
    return found


def _squeezed(text: str) -> tuple[list[int], str]:
    """A text with each gap as one space, and where each of its characters went."""
    starts, kept_characters, gap = [], [], False
    for character in text:
        space = character.isspace()
        starts.append(len(kept_characters) - (space and gap))
        if not (space and gap):
            kept_characters.append(" " if space else character)
        gap = space
    return [*starts, len(kept_characters)], "".join(kept_characters)
