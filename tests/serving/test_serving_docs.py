# SPDX-License-Identifier: Apache-2.0
"""docs/async_inference.md: the options and tests it names exist."""

import re
from pathlib import Path

from doc_commands import parser_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "async_inference.md").read_text(encoding="utf-8")


def test_the_options_and_tests_it_names_exist():
    known = parser_of("policy-server").format_help() + parser_of("robot-client").format_help()
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.S)
    for option in set(re.findall(r"`(--[a-z_-]+)", prose)) - {"--robot"}:
        assert option in known, option
    tests = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) >= 14
    for name in named:
        assert f"def {name}(" in tests, name


def test_it_points_to_a_picture_that_is_there():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", TEXT):
        assert (ROOT / "docs" / path).is_file(), path
