# SPDX-License-Identifier: Apache-2.0
"""docs/async_inference.md: its commands parse, and the tests it names exist."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from lerobot_ext.cli.main import _split_off, load_command

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "async_inference.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.S)).replace("\\\n", " ")
    return [shlex.split(line) for line in blocks.splitlines() if line.startswith("lerobot-ext")]


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words[1:3]))
def test_the_commands_parse(words):
    command = load_command(words[1])
    parser = argparse.ArgumentParser()
    command.configure(parser)
    own, passed_on = _split_off(words[2:], command.pass_on)
    parser.parse_args(own)
    assert bool(passed_on) == (words[1] == "robot-client")


def test_there_are_commands_of_both_kinds():
    assert {words[1] for words in commands()} == {"policy-server", "robot-client"}


def test_the_options_and_tests_it_names_exist():
    parser = argparse.ArgumentParser()
    for name in ("policy-server", "robot-client"):
        own = parser if name == "policy-server" else argparse.ArgumentParser()
        load_command(name).configure(own)
        if name == "robot-client":
            known = parser.format_help() + own.format_help()
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
