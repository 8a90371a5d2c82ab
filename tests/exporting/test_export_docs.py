# SPDX-License-Identifier: Apache-2.0
"""What `docs/export.md`, `docs/memory.md` tell users to type is understood, and every option is explained."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from lerobot_ext.cli.main import _split_off, load_command
from lerobot_ext.training import memory_peaks

DOCS = Path(__file__).parents[2] / "docs"
TEXTS = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("export", "memory")}
COMMANDS = [
    words
    for text in TEXTS.values()
    for block in re.findall(r"```bash\n(.*?)```", text, re.S)
    for line in block.replace("\\\n", " ").splitlines()
    if (words := shlex.split(line, comments=True)) and words[0] == "lerobot-ext"
]


def parser_of(name):
    parser = argparse.ArgumentParser()
    load_command(name).configure(parser)
    return parser


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_our_commands_parse(words):
    own, _ = _split_off(words[2:], load_command(words[1]).pass_on)
    parser_of(words[1]).parse_args(own)


@pytest.mark.parametrize(
    ("page", "name"), [("export", "export"), ("memory", "memory"), ("memory", "checkpoints-diff")]
)
def test_every_option_is_explained(page, name):
    assert {words[1] for words in COMMANDS} == {"export", "memory", "checkpoints-diff"}
    options = {option for action in parser_of(name)._actions for option in action.option_strings}
    missing = {option for option in options - {"-h", "--help"} if option not in TEXTS[page]}
    assert not missing


def test_the_columns_of_the_trainer_are_those_that_are_written():
    phases = ("forward", "backward", "optimizer", "update")
    assert set(re.findall(r"`(memory/\w+)`", TEXTS["memory"])) == {
        memory_peaks.COLUMN.format(phase) for phase in phases
    }
