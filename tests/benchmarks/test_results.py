# SPDX-License-Identifier: Apache-2.0
"""Every figure that a page takes from a benchmark is the one in `docs/results`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from doc_blocks import commands_of, pages, prose_of
from doc_commands import check

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))

from rl_parts import blocks  # noqa: E402
from run_parts import front, index, kept, quoted, quotes, reports  # noqa: E402
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


def test_the_table_of_the_readme_is_the_one_of_these_files():
    assert blocks.read_block(front.README, front.NAME).strip() == front.table(), HOW
    missing = {line.suite for line in front.LINES} - set(KEPT)
    assert not missing


@pytest.mark.parametrize("line", front.LINES, ids=lambda line: f"{line.suite} in {line.page}")
def test_a_row_of_it_says_figures_of_its_suite(line):
    _, *cells = line.cells(KEPT[line.suite]["figures"])
    assert re.search(r"\d", cells[1])
    assert line.suite == "koch_bus" or not quotes.unknown(" ".join(cells), KEPT[line.suite]["figures"])
    target, _, _ = line.page.partition("#")
    assert (ROOT / target).exists()


def test_what_ours_does_not_reach_is_bold():
    rates = {
        name: {"success": rate}
        for name, rate in zip(
            ("diffusion", "lapo", "qc_awr", "qc", "bc", "filtered_bc"), (1, 80, 70, 60, 50, 90), strict=True
        )
    }
    [offline] = [line for line in front.LINES if line.suite == "offline_rl"]
    assert "succeeded **90 %**" in offline.cells({"lift": {"summary": rates}})[2]
    rates["filtered_bc"]["success"] = 40
    assert "succeeded 40 %" in offline.cells({"lift": {"summary": rates}})[2]


# ---- figures in sentences and in tables made by hand

GENERATED = "docs/results/README.md"
PAGES = {path.relative_to(ROOT).as_posix(): path for path in pages()}
SOURCES = quoted.sources()


def sources_of(page):
    return [one for one in SOURCES if one["page"] == page]


@pytest.mark.parametrize("page", [page for page in PAGES if page != GENERATED])
def test_every_measurement_of_a_page_is_listed_with_where_it_comes_from(page):
    text = quoted.without_generated(page, prose_of(PAGES[page]))
    quotes_of_page = [quote for one in sources_of(page) for quote in one["quotes"]]
    gone = [quote for quote in quotes_of_page if quote not in " ".join(text.split())]
    assert not gone, f"{page} no longer says this; change docs/results/{quoted.NAME}: {gone}"
    found = quoted.unlisted(text, quotes_of_page)
    assert not found, f"list these of {page} in docs/results/{quoted.NAME} with their command: {found}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda one: f"{one['page']}: {one['quotes'][0][:30]}")
def test_a_source_is_a_suite_that_holds_the_numbers_or_tells_command_and_day(source):
    assert source["page"] in PAGES
    [kind] = [key for key in quoted.SOURCES if key in source]
    assert len(source[kind]) > 3
    if kind == "suite":
        held = KEPT[source["suite"]]["figures"]
        assert not [number for quote in source["quotes"] for number in quotes.unknown(quote, held)]
    if kind == "command":
        [words] = commands_of(source["command"])
        check(words)
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", source["measured"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It takes 12.5 ms, half of `--wait 30 ms`.", ["12.5 ms"]),
        ("2 to 5 % of 640x480 or 96 x 96", ["5 %"]),
        ("three\ntimes and 3 times, 4x", ["3 times", "4x"]),
        ("47/50 and 9 of 12 with 95 % intervals (95 %)", ["47/50", "9 of 12"]),
        ("| ms | a |\n|---|---|\n| x | 1.5 |\n| y | 1.5 (1-2) |\n", [" 1.5 ", " 1.5 (1-2) "]),
        ("| field | default |\n|---|---|\n| `x` | 1.5 |\n", []),
        ("成功率 83 % 快 3 倍", ["83 %", "3 倍"]),
    ],
)
def test_what_looks_like_a_measurement_is_found(text, found):
    assert [text[begin:end] for begin, end in quoted.figures(text)] == found


def test_a_figure_is_listed_by_its_place_and_not_by_its_digits():
    text = "Stock takes 5 ms,\n  ours 5 ms."
    assert not quoted.unlisted(text, ["takes 5 ms", "ours 5 ms"])
    assert quoted.unlisted(text, ["takes 5 ms, ours"]) == ["Stock takes 5 ms, ours 5 ms."]


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
