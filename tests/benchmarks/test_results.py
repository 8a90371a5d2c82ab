# SPDX-License-Identifier: Apache-2.0
"""Every figure that a page takes from a benchmark is the one in `docs/results`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))

from run_parts import index, kept, quotes, reports  # noqa: E402
from run_parts.suites import SUITES  # noqa: E402

KEPT = {suite.name: found for suite in SUITES if (found := kept.read(suite.name)) is not None}
HOW = (
    "After a measurement: `uv run python benchmarks/run.py --take SUITE FILE`, then the benchmark's own "
    "`--write-readme`, or the table on the page by hand."
)


@pytest.mark.parametrize("quote", quotes.quotes(), ids=lambda quote: f"{quote.suite} in {quote.page}")
def test_a_generated_block_is_what_the_figures_give(quote):
    found = quotes.wrong(quote, KEPT.get(quote.suite))
    assert not found, "\n".join([*found, HOW])


@pytest.mark.parametrize("table", quotes.ROUNDED, ids=lambda table: f"{table.suite} in {table.page}")
def test_a_table_made_by_hand_holds_figures_of_its_suite(table):
    cells = table.cells()
    assert re.search(r"\d", " ".join(cells))
    assert not quotes.unknown(" ".join(cells), KEPT[table.suite]["figures"]), HOW


@pytest.mark.parametrize("name", KEPT)
def test_a_benchmark_still_says_the_last_line_that_is_kept(name):
    report = reports.of(name, KEPT[name]["figures"])
    assert report is None or report.last_line == KEPT[name]["last_line"]


@pytest.mark.parametrize("name", KEPT)
def test_a_file_is_small_tells_its_command_and_day_and_no_machines_folders(name):
    assert kept.text_of(KEPT[name]) == (kept.RESULTS / f"{name}.json").read_text(encoding="utf-8")
    assert KEPT[name]["command"].startswith("uv run python benchmarks/")
    assert re.match(r"2\d{3}-\d\d-\d\d", KEPT[name]["measured"])
    assert KEPT[name]["machine"]


def test_the_index_is_the_one_of_these_files():
    found = (kept.RESULTS / "README.md").read_text(encoding="utf-8")
    assert found == index.page(), "write it by `uv run python benchmarks/run.py --take …` or `--write-docs`"


# ---- README.md


def readme() -> str:
    """README.md without code, each gap one space."""
    text = re.sub(r"^```.*?^```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S | re.M)
    return " ".join(text.split())


MEASURED = re.compile(r"\d+(?:\.\d+)? ?(?:%|x\b(?!\d)|times\b|ms\b)")
"""What a measurement looks like; sizes as 640x480 are none."""


def test_every_measurement_in_readme_is_listed_with_where_it_comes_from():
    text, listed = readme(), index.readme_figures()
    places = []
    for one in listed:
        starts = [found.start() for found in re.finditer(re.escape(one["quote"]), text)]
        assert starts, f"README.md no longer says {one['quote']!r}; change docs/results/readme_figures.json"
        places += [(start, start + len(one["quote"])) for start in starts]
    unlisted = [
        text[max(0, found.start() - 60) : found.end() + 30]
        for found in MEASURED.finditer(text)
        if not any(start <= found.start() and found.end() <= end for start, end in places)
    ]
    assert not unlisted, f"list these in docs/results/readme_figures.json with their command: {unlisted}"


def test_what_readme_takes_from_a_suite_is_in_its_figures():
    of_suites = [one for one in index.readme_figures() if "suite" in one]
    assert of_suites
    for one in of_suites:
        assert not quotes.unknown(one["quote"], KEPT[one["suite"]]["figures"]), one


def test_what_no_file_holds_tells_command_and_day():
    for one in index.readme_figures():
        assert "suite" in one or (one["command"].startswith("uv run ") and one["measured"].startswith("20"))


# ---- the comparison itself


def test_a_changed_digit_in_a_block_is_found(tmp_path, monkeypatch):
    [quote] = [one for one in quotes.quotes() if one.page.endswith("lapo/README.md")]
    page = tmp_path / quote.page
    page.parent.mkdir(parents=True)
    text = (ROOT / quote.page).read_text(encoding="utf-8")
    monkeypatch.setattr(quotes, "ROOT", tmp_path)
    page.write_text(text.replace("83.3 %", "83.4 %", 1), encoding="utf-8")
    assert quotes.wrong(quote, KEPT["offline_rl"])
    page.write_text(text, encoding="utf-8")
    assert not quotes.wrong(quote, KEPT["offline_rl"])
    assert "keeps nothing" in quotes.wrong(quote, None)[0]


def test_a_figure_that_a_block_adds_by_itself_is_found(tmp_path, monkeypatch):
    [quote] = [one for one in quotes.quotes() if one.begin and one.suite == "q_chunking"]
    page = tmp_path / quote.page
    page.parent.mkdir(parents=True)
    text = (ROOT / quote.page).read_text(encoding="utf-8")
    page.write_text(text.replace(quote.end, f"It was 7 times as good.\n{quote.end}"), encoding="utf-8")
    monkeypatch.setattr(quotes, "ROOT", tmp_path)
    assert "7 times" in quotes.wrong(quote, KEPT["q_chunking"])[0]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("83.3 % and 25", []),
        ("0.8333", []),
        ("a third: 0.30", []),
        ("83.4 %", ["83.4"]),
        ("54,040 ms", []),
        ("54,140 ms", ["54,140"]),
        ("in 640x480", []),
        ("9e-07", ["9e-07"]),
    ],
)
def test_a_number_is_known_by_its_own_digits(text, missing):
    figures = {"a": {"rate": 0.83333}, "b": {"rate": 0.25}, "ms": 54043.7, "size": "640x480", "480": 640}
    assert quotes.unknown(text, figures) == missing


def test_a_place_on_a_machine_is_not_kept():
    suite = next(suite for suite in SUITES if suite.name == "convert")
    about = {"command": "c", "measured": "2026-11-22", "machine": {}, "last_line": ""}
    with pytest.raises(ValueError, match="/home/me/data"):
        kept.text_of(kept.entry(suite, {"file": "/home/me/data"}, **about))
    with pytest.raises(ValueError, match="LEFT_OUT"):
        kept.text_of(kept.entry(suite, {"all": list(range(20_000))}, **about))
    text = kept.text_of(kept.entry(suite, {"a": [1.0, 2.123456789012], "b": [{"c": [1]}]}, **about))
    assert json.loads(text)["figures"] == {"a": [1.0, 2.12345679], "b": [{"c": [1]}]}
    assert "[1.0, 2.12345679]" in text
