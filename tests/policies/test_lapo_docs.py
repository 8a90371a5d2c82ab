# SPDX-License-Identifier: Apache-2.0
"""What the README says about the configuration and the recipes is what the code does."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import draccus
import pytest
import yaml
from lerobot.configs.policies import PreTrainedConfig
from lerobot_policy_lapo import LAPOConfig
from lerobot_policy_lapo.recipe_command import RECIPES, recipe_text

from lerobot_ext.cli.command import CommandError

README = (Path(__file__).parents[2] / "policies" / "lerobot_policy_lapo" / "README.md").read_text()
INHERITED = {field.name for field in dataclasses.fields(PreTrainedConfig)}
FIELDS = {f.name: f for f in dataclasses.fields(LAPOConfig) if f.name not in INHERITED}


def test_docstring_lists_every_field_with_its_default():
    pattern = r"^\s+(\w+) \(`[^`]+`, \*optional\*(?:, defaults to `([^`]*)`)?\)"
    documented = dict(re.findall(pattern, LAPOConfig.__doc__ or "", re.MULTILINE))
    assert set(documented) == set(FIELDS) - {"extra_steps"}  # its own base has that
    for name, default in documented.items():
        if default:
            assert ast.literal_eval(default) == FIELDS[name].default, name


def test_readme_lists_every_field_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", README, re.MULTILINE))
    assert set(FIELDS) <= set(rows)
    for name, field in FIELDS.items():
        if field.default is not dataclasses.MISSING:
            assert ast.literal_eval(rows[name].strip("` ")) == field.default, name


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
