# SPDX-License-Identifier: Apache-2.0
"""What `docs/online_rl.md` tells users to type is understood, and its list of options is the command's."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from lerobot_ext.cli.main import _split_off, load_command
from lerobot_ext.online_rl.settings import NAMES, OnlineSettings

TEXT = (Path(__file__).parents[2] / "docs" / "online_rl.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```|^    (lerobot-ext [^\n]*)$", TEXT, re.S | re.M)
    for line in "".join(block).replace("\\\n", " ").splitlines()
]
ROWS = "\n".join(line for line in TEXT.splitlines() if line.startswith("| `--"))


def parser_of(name):
    parser = argparse.ArgumentParser()
    load_command(name).configure(parser)
    return parser


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "lerobot-ext"], ids=" ".join)
def test_our_commands_parse(words):
    own, _ = _split_off(words[2:], load_command(words[1]).pass_on)
    parser_of(words[1]).parse_args(own)


def test_every_setting_is_an_option_and_explained_with_its_default():
    options = {word for action in parser_of("train-online")._actions for word in action.option_strings}
    assert {f"--{name}" for name in NAMES} <= options
    assert options - {"-h", "--help", "--output_dir", "--resume"} <= set(re.findall(r"--[\w-]+", ROWS))
    for name, value in OnlineSettings().as_dict().items():
        [row] = [line for line in ROWS.splitlines() if f"`--{name}`" in line.split("|")[1]]
        text = f"{value:g}" if isinstance(value, float) else str(value)
        assert re.search(rf"[( ]{re.escape(text)}[,;)]", row), (name, row)


def test_the_help_ends_with_a_whole_example():
    example = load_command("train-online").example
    assert {"--policy.path", "--env.type", "--dataset.repo_id"} <= set(re.findall(r"--[\w.]+", example))
