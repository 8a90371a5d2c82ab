# SPDX-License-Identifier: Apache-2.0
"""docs/hub.md: its commands parse, and its figures and names are those of the code."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from lerobot_ext.cli.main import load_command
from lerobot_ext.hub import hook, plot, pull_command, push, requirements, train_hooks
from lerobot_ext.hub.history import MAX_POINTS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "hub.md").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).replace("\\\n", " ")
COMMANDS = [line for line in BLOCKS.splitlines() if line.startswith("lerobot-ext ")]


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_parses(line):
    _, name, *words = shlex.split(line)
    command = load_command(name)
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.configure(parser)
    assert parser.parse_args(words)


def test_the_example_of_requirements_is_one():
    [example] = re.findall(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)
    needs = requirements.parse_requirements(example.encode(), "docs/hub.md")
    assert needs.policy == "hierarchical_diffusion"
    assert needs.packages[0].provides


def test_figures_and_names_are_those_of_the_code():
    tests = (ROOT / "tests" / "core" / "test_hub_push.py").read_text()
    assert "assert (halves, total) == (10, 19)" in tests
    assert "half\na checkpoint at 10 of its 19 requests" in TEXT
    assert "assert len(hub.requests) == 12" in tests
    assert "at each of its 12" in TEXT
    assert push.TRIES == 4
    assert "tried four times" in TEXT
    assert f"at most {MAX_POINTS} points" in TEXT
    assert f"exit code {pull_command.EXIT_PACKAGES} " in TEXT
    for name in (f"{hook.SWITCH}=off", plot.FILE_NAME, requirements.FILE_NAME, "not_pushed"):
        assert name in TEXT, name
    assert train_hooks.MESSAGE
