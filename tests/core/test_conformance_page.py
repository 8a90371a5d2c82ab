# SPDX-License-Identifier: Apache-2.0
"""The page about the kit lists the rules there are."""

from pathlib import Path

import pytest

from lerobot_ext.testing.rule_list import with_rules

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_page_lists_every_rule():
    page = PAGE.read_text(encoding="utf-8")
    assert with_rules(page) == page, (
        "the rules changed: run `uv run python -m lerobot_ext.testing.rule_list docs/conformance.md`"
    )


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="rules: begin"):
        with_rules("# A page\n")
