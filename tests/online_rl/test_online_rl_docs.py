# SPDX-License-Identifier: Apache-2.0
"""The list of options of `docs/online_rl.md` is the command's."""

import re
from pathlib import Path

from doc_commands import options_of

from lerobot_ext.cli.main import load_command
from lerobot_ext.online_rl.settings import NAMES, OnlineSettings

TEXT = (Path(__file__).parents[2] / "docs" / "online_rl.md").read_text(encoding="utf-8")
ROWS = "\n".join(line for line in TEXT.splitlines() if line.startswith("| `--"))


def test_every_setting_is_an_option_and_explained_with_its_default():
    options = options_of("train-online")
    assert {f"--{name}" for name in NAMES} <= options
    assert options - {"--output_dir", "--resume"} <= set(re.findall(r"--[\w-]+", ROWS))
    for name, value in OnlineSettings().as_dict().items():
        [row] = [line for line in ROWS.splitlines() if f"`--{name}`" in line.split("|")[1]]
        text = f"{value:g}" if isinstance(value, float) else str(value)
        assert re.search(rf"[( ]{re.escape(text)}[,;)]", row), (name, row)


def test_the_help_ends_with_a_whole_example():
    example = load_command("train-online").example
    assert {"--policy.path", "--env.type", "--dataset.repo_id"} <= set(re.findall(r"--[\w.]+", example))
