# SPDX-License-Identifier: Apache-2.0
"""docs/new_plugin.md and the workflows say what the commands do."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
import yaml

from lerobot_ext.cli.main import command_entry_points, load_command
from lerobot_ext.scaffold.names import KINDS, LONGEST, PREFIXES, make_names
from lerobot_ext.scaffold.render import Texts, project_files

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "new_plugin.md").read_text()


def commands(text: str) -> list[list[str]]:
    """The words of each `lerobot-ext` command in `text`, without comments."""
    joined = text.replace("\\\n", " ")
    found = re.findall(r"^\s*(?:- run: |run: )?(?:uv run )?(lerobot-ext .*)$", joined, re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in found]


def parse(words: list[str]) -> argparse.Namespace:
    command = load_command(words[0])
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.configure(parser)
    return parser.parse_args(words[1:])


@pytest.mark.parametrize("words", commands(DOCS), ids=" ".join)
def test_every_command_of_the_page_is_understood(words):
    parse(words)


def test_the_page_has_the_ten_commands():
    assert [int(n) for n in re.findall(r"# (\d+)\b", DOCS.split("```")[1])] == list(range(1, 11))


def test_the_table_of_kinds_is_the_scaffolds():
    rows = dict(re.findall(r"^\| `new (\w+) NAME` \| `(\w+)NAME` \|", DOCS, re.MULTILINE))
    assert rows == PREFIXES


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_to_replace_exist(kind):
    row = re.search(rf"^\| `new {kind} NAME` .*\| ([^|]*) \|$", DOCS, re.MULTILINE)[1]
    files = project_files(make_names(kind, "thing"), Texts())
    for name in re.findall(r"`(\w+\.py)`", row):
        assert any(path.endswith("/" + name.replace("NAME", "thing")) for path in files), name
    if "HARDWARE" in row:
        assert any("HARDWARE" in text for text in files.values())


def test_the_longest_name_is_the_one_told():
    assert f"more than {LONGEST}" in DOCS


@pytest.mark.parametrize("spelling", ["MyACT", "my-act", "lerobot_policy_my_act"])
def test_the_spellings_of_the_page_mean_the_same(spelling):
    assert f"`{spelling}`" in DOCS
    assert make_names("policy", spelling).name == "my_act"


def test_our_workflow_runs_the_guard_without_blocking():
    text = (ROOT / ".github" / "workflows" / "lerobot-next.yml").read_text()
    job = yaml.safe_load(text)["jobs"]["guard"]
    assert job["continue-on-error"] is True
    [words] = commands(text)
    assert parse(words).against == "$AGAINST"


@pytest.mark.parametrize("kind", KINDS)
def test_the_workflow_of_a_project_is_yaml_and_its_guard_is_understood(kind):
    names = make_names(kind, "thing")
    text = project_files(names, Texts())[".github/workflows/ci.yml"]
    jobs = yaml.safe_load(text)["jobs"]
    assert {"run": "uv run pytest"} in jobs["test"]["steps"]
    [words] = commands(text)
    assert parse(words).distribution == [names.package]


def test_the_pages_commands_are_installed():
    assert {"new", "guard", "check", "doctor"} <= set(command_entry_points())
