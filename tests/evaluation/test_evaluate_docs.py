# SPDX-License-Identifier: Apache-2.0
"""What `docs/evaluate.md` tells users to type is understood, and its lists are the code's."""

import argparse
import ast
import re
import shlex
from pathlib import Path

import pytest

from lerobot_ext.cli.main import _split_off, load_command
from lerobot_ext.evaluation.batch_stages import Change
from lerobot_ext.evaluation.offline_report import STEM

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/evaluate.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    for line in block.replace("\\\n", " ").splitlines()
]


def options_of(name):
    parser = argparse.ArgumentParser()
    load_command(name).configure(parser)
    return parser


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "lerobot-ext"], ids=" ".join)
def test_our_commands_parse(words):
    pass_on = load_command(words[1]).pass_on
    own, passed_on = _split_off(words[2:], pass_on)
    options_of(words[1]).parse_args(own)
    assert bool(passed_on) == bool(pass_on)


@pytest.mark.parametrize("name", ["offline-eval", "inspect-batch"])
def test_every_option_is_explained(name):
    start = TEXT.index(f"## `{name}`")
    end = TEXT.find("\n## ", start + 1)
    section = TEXT[start : end if end > 0 else len(TEXT)]
    for action in options_of(name)._actions:
        for option in action.option_strings:
            if option.startswith("--") and option != "--help":
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
