# SPDX-License-Identifier: Apache-2.0
"""The lists of `docs/evaluate.md` are the code's."""

import ast
import re
from pathlib import Path

import pytest
from doc_commands import options_of

from lerobot_ext.evaluation.batch_stages import Change
from lerobot_ext.evaluation.offline_report import STEM

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/evaluate.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["offline-eval", "inspect-batch"])
def test_every_option_is_explained(name):
    start = TEXT.index(f"## `{name}`")
    end = TEXT.find("\n## ", start + 1)
    section = TEXT[start : end if end > 0 else len(TEXT)]
    for option in options_of(name):
        assert option in section, option


def test_the_kinds_of_findings_are_those_of_the_code():
    source = (ROOT / "lerobot_ext/evaluation/batch_findings.py").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("problem", "note")
        ):
            assert isinstance(node.args[0], ast.Constant)
            found.setdefault(str(node.args[0].value), set()).add(node.func.id)
    rows = re.findall(r"^\| `(\w+)` \| (problem|note|problem, note) \|", TEXT, re.M)
    assert {kind: set(levels.split(", ")) for kind, levels in rows} == found


def test_files_marks_and_pictures_are_there():
    for name in (
        f"{STEM}.json",
        f"{STEM}.csv",
        f"{STEM}.html",
        "trajectory.png",
        "horizon.png",
        "joints.png",
    ):
        assert f"`{name}`" in TEXT
    for mark in Change.__args__:
        assert f"`{mark}`" in TEXT
    for picture in re.findall(r"\]\((images/[^)]+)\)", TEXT):
        assert (ROOT / "docs" / picture).is_file(), picture
