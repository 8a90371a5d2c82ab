# SPDX-License-Identifier: Apache-2.0
"""Chinese pages say what the English ones say: the same sections, code and numbers.

A translation may leave sections with figures that change to the English page. It names and links them:

    <!-- not translated: Configuration; Against flat and stock diffusion -->
"""

import re
from pathlib import Path

import pytest
from doc_blocks import ROOT, blocks_of, pages, prose_of

TRANSLATED = [page for page in pages() if page.name.endswith(".zh-CN.md")]
_LEFT_OUT = re.compile(r"<!-- not translated: (.*?) -->", re.DOTALL)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def original(page: Path) -> Path:
    return page.with_name(page.name.replace(".zh-CN.md", ".md"))


def left_out(page: Path) -> list[str]:
    """Headings of the English page whose sections a translation leaves to it."""
    return [
        one.strip()
        for names in _LEFT_OUT.findall(page.read_text(encoding="utf-8"))
        for one in names.split(";")
    ]


def without_sections(text: str, names: list[str]) -> str:
    """A page without the text below some of its headings; the headings stay, those below them go too.

    Raises:
        AssertionError: There is no such heading.
    """
    for one in names:
        found = re.search(rf"^(#+) {re.escape(one)}$\n", text, re.MULTILINE)
        assert found, f"the English page has no section {one!r}: the translation has to follow"
        end = re.compile(rf"^#{{1,{len(found[1])}}} ", re.MULTILINE).search(text, found.end())
        text = text[: found.end()] + (text[end.start() :] if end else "")
    return text


def both(page: Path) -> tuple[str, str]:
    """A translation, and what it translates, without fenced code."""
    english = without_sections(_without_code(original(page)), left_out(page))
    return _without_links(_without_code(page)), _without_links(english)


def _without_code(page: Path) -> str:
    """Headings must not be sought in code, where `#` begins a comment."""
    return prose_of(page)


def _without_links(text: str) -> str:
    return re.sub(r"\]\([^)]*\)", "]", text)


def headings(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]


def commands(page: Path, names: list[str]) -> list[str]:
    """Code in fences, and indented commands; drawings may be translated."""
    starts = ("lerobot-", "uv ", "pip ")
    kept = without_sections(page.read_text(encoding="utf-8"), names)
    blocks = [block for block in blocks_of(page) if block.text.strip() and _lines(block.text) in _lines(kept)]
    found = [block for block in blocks if block.lang or block.text.startswith(starts)]
    return [block.text.strip() for block in found]


def _lines(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def numbers(text: str) -> set[str]:
    """Numbers of a page's text, as digits."""
    return set(re.findall(r"(?<![\w.])\d+(?:[.,]\d+)*", text))


def rows(text: str) -> list[int]:
    """How many rows each table has."""
    return [table.count("\n|") for table in re.findall(r"(?:\n\|[^\n]*)+", text)]


def test_the_first_pages_are_translated():
    assert {name(page) for page in TRANSLATED} >= {
        "README.zh-CN.md",
        "docs/koch.zh-CN.md",
        "policies/lerobot_policy_hierarchical_diffusion/README.zh-CN.md",
    }


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_a_translation_has_the_sections_of_its_page(page):
    here, there = both(page)
    assert headings(here) == headings(there)


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_a_translation_has_the_code_of_its_page(page):
    assert commands(page, []) == commands(original(page), left_out(page))


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_a_translation_has_no_number_that_its_page_has_not(page):
    here, there = both(page)
    assert numbers(here) - numbers(there) == set()


# READMEs grow rows and measurements with each part of the project; their translations point to those.
@pytest.mark.parametrize("page", [page for page in TRANSLATED if name(page).startswith("docs/")], ids=name)
def test_a_manual_has_all_numbers_and_table_rows_of_its_page(page):
    here, there = both(page)
    assert numbers(here) == numbers(there)
    assert rows(here) == rows(there)


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_a_translation_points_to_its_page(page):
    assert f"({original(page).name})" in page.read_text(encoding="utf-8")


def test_a_section_that_is_left_out_takes_those_below_it_along():
    text = "# a\n1\n## b\n2\n### c\n3\n## d\n4\n"
    assert without_sections(text, ["b"]) == "# a\n1\n## b\n## d\n4\n"
    with pytest.raises(AssertionError, match="no section 'e'"):
        without_sections(text, ["e"])
