# SPDX-License-Identifier: Apache-2.0
"""docs/mixing.md: its file is a spec, its tables have every key, its commands parse."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from stock_loop import config

from lerobot_ext.mixing import hook, provenance, statistics
from lerobot_ext.mixing.dataset import DATASET_INDEX, LOSS_WEIGHT
from lerobot_ext.mixing.loss_weights import TYPE
from lerobot_ext.mixing.spec import MixSpec, PartSpec, load_spec

TEXT = (Path(__file__).parents[2] / "docs/mixing.md").read_text(encoding="utf-8")
COMMANDS = (
    "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).replace("\\\n", " ").splitlines()
)


def keys_of(section):
    return re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)


def test_the_example_is_a_spec(tmp_path):
    [example] = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    path = tmp_path / "mix.yaml"
    path.write_text(example)
    lift, reach = load_spec(path).datasets
    assert lift.episodes is not None
    assert len(lift.episodes) == 41
    assert reach.rename


def test_the_tables_have_every_key():
    whole, rest = TEXT.split("Of the whole:")[1].split("Of each dataset:")
    assert set(keys_of(whole)) == {field.name for field in fields(MixSpec)}
    assert keys_of(rest.split("A wrong file")[0]) == [field.name for field in fields(PartSpec)]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("lerobot-train ")])
def test_lerobots_commands_parse(line):
    import lerobot.policies  # noqa: F401 - registers the policies, as the command line does

    assert config(shlex.split(line)[1:]).dataset.repo_id.endswith((".yaml", ".json"))


def test_names_and_figures_are_those_of_the_code():
    for name in (
        hook.SWITCH,
        provenance.FILE_NAME,
        DATASET_INDEX,
        LOSS_WEIGHT,
        f"sample_weighting.type={TYPE}",
    ):
        assert f"{name}" in TEXT
    assert f"{statistics.MOST_FRAMES:,} frames" in " ".join(TEXT.split())
