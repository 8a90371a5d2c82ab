# SPDX-License-Identifier: Apache-2.0
"""docs/offline_data.md: its mapping is one, its table has every code."""

import re
from pathlib import Path

from lerobot_ext.importing import command
from lerobot_ext.importing.findings import ALLOWABLE
from lerobot_ext.importing.layouts import LAYOUTS
from lerobot_ext.importing.mapping import read_mapping
from lerobot_ext.labelling import command as label_command
from lerobot_ext.labelling import sources

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/offline_data.md").read_text(encoding="utf-8")


def test_its_mapping_is_one(tmp_path):
    [example] = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    (tmp_path / "own.yaml").write_text(example)

    mapping = read_mapping(tmp_path / "own.yaml")

    assert mapping.groups == "data/demo_*"
    assert set(mapping.signals) == {"reward", "done", "truncated", "success"}


def test_its_table_has_every_code():
    sources_text = "".join(path.read_text() for path in (ROOT / "lerobot_ext/importing").glob("*.py"))
    used = set(re.findall(r'Problem\(\s*"([a-z-]+)"', sources_text))
    table = TEXT.split("## When a file is refused")[1].split("\n## ")[0]
    named = {
        code
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for code in re.findall(r"`(.*?)`", row)
    }

    assert named == used
    assert set(re.findall(r"`([a-z-]+)` †", table)) == set(ALLOWABLE) == set(command.ALLOWED)


def test_its_layouts_and_sources_are_those_of_the_commands():
    assert ("auto", *LAYOUTS) == command.LAYOUTS
    assert set(re.findall(r"^\| `(lapo|robomimic|aloha)` \|", TEXT, re.MULTILINE)) == set(LAYOUTS)
    assert label_command.REWARDS == sources.REWARDS
    assert label_command.SUCCESS == sources.SUCCESS
    rewards = TEXT.split("| `--reward` |")[1].split("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)", rewards, re.MULTILINE)) == sources.REWARDS
