# SPDX-License-Identifier: Apache-2.0
"""What `docs/offline_rl.md` tells users to type is understood, and its lists are the code's."""

import argparse
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import lerobot_ext.offline_rl
from lerobot_ext.cli.main import _split_off, load_command

TEXT = (Path(__file__).parents[2] / "docs" / "offline_rl.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    for line in block.replace("\\\n", " ").splitlines()
]


def parser_of(name):
    parser = argparse.ArgumentParser()
    load_command(name).configure(parser)
    return parser


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "lerobot-ext"], ids=" ".join)
def test_our_commands_parse(words):
    own, _ = _split_off(words[2:], load_command(words[1]).pass_on)
    parser_of(words[1]).parse_args(own)


def test_every_option_of_fqe_is_explained():
    options = {word for action in parser_of("fqe")._actions for word in action.option_strings} - {
        "-h",
        "--help",
    }
    rows = "\n".join(line for line in TEXT.splitlines() if line.startswith("| `--"))
    assert options <= set(re.findall(r"--[\w-]+", rows))


def test_every_module_is_named_on_the_page_and_in_the_package():
    modules = {found.name for found in pkgutil.iter_modules(lerobot_ext.offline_rl.__path__)}
    named = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.M)) & modules
    assert modules - named == {"fqe_command", "fqe_session"}
    listed = set(re.findall(r"^- `(\w+)`:", lerobot_ext.offline_rl.__doc__ or "", re.M))
    assert listed == named
    for name in modules:
        assert importlib.import_module(f"lerobot_ext.offline_rl.{name}").__doc__
