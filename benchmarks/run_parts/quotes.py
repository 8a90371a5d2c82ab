# SPDX-License-Identifier: Apache-2.0
"""Where pages quote figures: blocks and tables that are made of the JSON in `docs/results`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from run_parts import reports

ROOT = Path(__file__).parents[2]
Kept = dict[str, Any]
_POLICIES = "policies/lerobot_policy_"


@dataclass(frozen=True)
class Quote:
    """A part of a page that repeats a suite's figures.

    Args:
        suite (`str`): Whose figures.
        page (`str`): The page, relative to the repository.
        texts (`Callable`): What of the page the kept entry gives, piece by piece.
        begin (`str`): The line before a block; empty where the page only has to hold the pieces.
        end (`str`): The line behind it.
    """

    suite: str
    page: str
    texts: Callable[[Kept], list[str]]
    begin: str = ""
    end: str = ""

    def block(self) -> str:
        """What stands between the two lines; the whole page where there are none.

        Raises:
            ValueError: The page lacks a line.
        """
        text = (ROOT / self.page).read_text(encoding="utf-8")
        if not self.begin:
            return text
        _, begun, rest = text.partition(self.begin)
        inside, ended, _ = rest.partition(self.end)
        if not begun or not ended:
            raise ValueError(f"{self.page} has no block between {self.begin} and {self.end}.")
        return inside.strip()


def wrong(quote: Quote, kept: Kept | None) -> list[str]:
    """What a page says that the figures do not, or the other way round; an empty block says nothing."""
    block = quote.block()
    if quote.begin and not block:
        return []
    if kept is None:
        return [f"{quote.page} quotes {quote.suite}, of which docs/results keeps nothing"]
    found, rest = [], block
    for text in quote.texts(kept):
        if text.strip() not in rest:
            found.append(f"{quote.page} does not hold what docs/results/{quote.suite}.json gives:\n{text}")
        rest = rest.replace(text.strip(), "", 1)
    if quote.begin and not found:
        for known in (kept["command"], *re.findall(r"\d{4}-\d\d-\d\d", kept["measured"])):
            rest = rest.replace(known, "")
        found += [
            f"{quote.page}: {line!r} is not in the figures" for line in rest.splitlines() if _says(line)
        ]
    return found


def _says(line: str) -> bool:
    return bool(re.search(r"\d", re.sub(r"!\[.*?\]\(.*?\)", "", line)))


def _tables(kept: Kept) -> list[str]:
    report = reports.of(kept["suite"], kept["figures"])
    assert report is not None, kept["suite"]
    return [part for part in re.split(r"\n\n+", report.tables) if part.strip()]


def _act_plus(kept: Kept) -> list[str]:
    from act_plus_parts import report

    row = kept["figures"]["rows"][0]
    return [report.about(row["seeds"], row["episodes"] // row["seeds"]), *_tables(kept)]


def _whole(kept: Kept) -> list[str]:
    report = reports.of(kept["suite"], kept["figures"])
    assert report is not None, kept["suite"]
    return [report.tables]


def _without_wall(kept: Kept) -> list[str]:
    """The tables of `processors` without their last two columns."""
    return [
        "\n".join("|".join(line.split("|")[:-3]) + "|" for line in table.splitlines())
        for table in _tables(kept)
    ]


def _offline(mine: str) -> Callable[[Kept], list[str]]:
    def texts(kept: Kept) -> list[str]:
        import importlib

        _, _, methods = importlib.import_module("offline_rl").BLOCKS[mine]
        return [reports.offline_block(kept["figures"], mine, methods)]

    return texts


def _online(kept: Kept) -> list[str]:
    return [reports.online_block(kept["figures"])]


def _marked(name: str) -> tuple[str, str]:
    from rl_parts import blocks

    begin, end = blocks.markers(name)
    return begin, end


# ---- tables that were put together by hand


@dataclass(frozen=True)
class Rounded:
    """A table whose figures are those of a suite, rounded and arranged for its page.

    Args:
        suite (`str`): Whose figures.
        page (`str`): The page, relative to the repository.
        head (`str`): How the table's first line begins.
    """

    suite: str
    page: str
    head: str

    def cells(self) -> list[str]:
        """The cells that hold figures: all but the first of each row.

        Raises:
            ValueError: The page has no such table.
        """
        lines = (ROOT / self.page).read_text(encoding="utf-8").splitlines()
        starts = [at for at, line in enumerate(lines) if line.startswith(self.head)]
        if not starts:
            raise ValueError(f"{self.page} has no table that begins with {self.head!r}")
        rows = []
        for line in lines[starts[0] + 2 :]:
            if not line.startswith("|"):
                break
            rows.append(line)
        return [cell for row in rows for cell in row.strip("|").split("|")[1:]]


ROUNDED = (
    Rounded(
        "inference_speed", f"{_POLICIES}hierarchical_diffusion/README.md", "| 4 denoising steps | plain, ms"
    ),
    Rounded("inference_speed", f"{_POLICIES}hierarchical_diffusion/README.md", "| stock | joints, ms"),
    Rounded("koch_bus", "robots/lerobot_robot_koch/README.md", "| fault | stock: aborted"),
    Rounded("memory_pool", "docs/memory_pool.md", "| | stock PyAV | our PyAV backend"),
)

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def unknown(text: str, figures: Any) -> list[str]:
    """Numbers in a text that are no figure, no per cent of one and no ratio of two, however they are rounded.

    A small whole number may be there by chance; three digits are hardly.
    """
    known = list(_leaves(figures)) + list(_ratios(figures))
    known += [100 * value for value in known]
    return [
        number
        for number in (match[0].rstrip(",") for match in _NUMBER.finditer(text))
        if not any(_is(number.replace(",", ""), value) for value in known)
    ]


def _is(number: str, value: float) -> bool:
    digits = number.partition("e")[0].replace(".", "").lstrip("0").rstrip("0")
    printed = float(number)
    decimals = len(number.partition(".")[2]) if "e" not in number else None
    if decimals is not None and abs(printed - value) <= 0.5 * 10.0**-decimals + 1e-9:
        return True
    return len(digits) > 1 and float(f"{value:.{len(digits)}g}") == printed


def _leaves(figures: Any) -> Iterator[float]:
    if isinstance(figures, dict):
        for key, value in figures.items():
            yield from (float(found[0].replace(",", "")) for found in _NUMBER.finditer(str(key)))
            yield from _leaves(value)
    elif isinstance(figures, list):
        for value in figures:
            yield from _leaves(value)
    elif isinstance(figures, (int, float)) and not isinstance(figures, bool):
        yield abs(float(figures))


def _ratios(figures: Any) -> Iterator[float]:
    """How the values of siblings relate to the first one's, both ways."""
    if not isinstance(figures, dict):
        return
    siblings = [value for value in figures.values() if isinstance(value, dict)]
    for value in siblings:
        yield from _ratios(value)
        for key, one in value.items():
            first = siblings[0].get(key)
            if isinstance(one, (int, float)) and isinstance(first, (int, float)) and one and first:
                yield from (one / first, first / one)


# ---- generated blocks


def quotes() -> list[Quote]:
    """All that is compared."""
    from hierarchical_parts import report as hierarchical

    chunking = f"{_POLICIES}q_chunking/README.md"
    return [
        Quote(
            "hierarchical",
            f"{_POLICIES}hierarchical_diffusion/README.md",
            _whole,
            hierarchical.BEGIN,
            hierarchical.END,
        ),
        Quote("koch_policies", "docs/policies.md", _tables, *_marked("koch_policies")),
        Quote("act_plus", f"{_POLICIES}act_plus/README.md", _act_plus, *_marked("results")),
        Quote("offline_rl", f"{_POLICIES}lapo/README.md", _offline("lapo"), *_marked("results")),
        Quote("offline_rl", chunking, _offline("qc"), *_marked("offline results")),
        Quote("online_rl", chunking, _online, *_marked("online results")),
        Quote("q_chunking", chunking, _tables, *_marked("cost")),
        Quote("data_path", "robots/lerobot_camera_pyav/README.md", _whole),
        Quote("async_inference", "docs/async_inference.md", _whole),
        Quote("hub_push", "docs/hub.md", _tables),
        Quote("recording", "docs/recording.md", _tables),
        Quote("convert", "docs/offline_data.md", _tables),
        Quote("processors", "processors/lerobot_robot_processors/README.md", _without_wall),
    ]
