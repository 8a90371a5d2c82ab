# SPDX-License-Identifier: Apache-2.0
"""What the README says about the configuration and the recipes is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import draccus
import pytest
import yaml
from config_docs import check_docstring, check_readme, own_fields
from lerobot.configs.policies import PreTrainedConfig
from lerobot_policy_lapo import LAPOConfig
from lerobot_policy_lapo.recipe_command import RECIPES, recipe_text

from lerobot_ext.cli.command import CommandError

README = (Path(__file__).parents[2] / "policies" / "lerobot_policy_lapo" / "README.md").read_text()
FIELDS = own_fields(LAPOConfig, PreTrainedConfig)


def test_docstring_lists_every_field_with_its_default():
    check_docstring(LAPOConfig, FIELDS)


def test_readme_lists_every_field_with_its_default():
    check_readme(README, FIELDS)


def test_readme_options_are_valid_configurations():
    for line in re.findall(r"`(--policy\.[^`]*)`", README):
        words = [w.removeprefix("--policy.") for w in line.split() if w.startswith("--policy.") and "=" in w]
        arguments = [f"--{word}" for word in words if not word.endswith("=")]
        draccus.parse(LAPOConfig, args=["--device=cpu", *arguments])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_the_readme_says(name):
    recipe = yaml.safe_load(recipe_text(name))
    policy = recipe["policy"]
    assert policy.pop("type") == "lapo"
    LAPOConfig(device="cpu", **policy)
    row = next(line for line in README.splitlines() if line.startswith(f"| `{name}` |"))
    numbers = [float(cell) for cell in row.split("|")[3:8]]
    said = [policy[key] for key in ("expectile", "kl_beta", "tau", "obs_feature_dim")]
    assert numbers == [recipe["batch_size"], *said]


def test_an_unknown_recipe_is_refused():
    with pytest.raises(CommandError, match="'tiny'"):
        recipe_text("tiny")
