# SPDX-License-Identifier: Apache-2.0
"""What the documentation says about the configuration is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import draccus
import pytest
from config_docs import check_docstring, check_readme, own_fields
from lerobot.configs.policies import PreTrainedConfig
from lerobot_policy_hierarchical_diffusion import HierarchicalDiffusionConfig

README = Path(__file__).parents[2] / "policies" / "lerobot_policy_hierarchical_diffusion" / "README.md"
FIELDS = own_fields(HierarchicalDiffusionConfig, PreTrainedConfig, "n_obs_steps")


def test_docstring_lists_every_field_with_its_default():
    check_docstring(HierarchicalDiffusionConfig, FIELDS)


def test_readme_lists_every_field_with_its_default():
    check_readme(README.read_text(), FIELDS)


def test_readme_recipes_are_valid_configurations():
    found = re.findall(r"--policy\.(\w+)=('[^']+'|[^\s`]+)", README.read_text())
    arguments = [
        f"--{name}={value.strip(chr(39))}"
        for name, value in found
        if name in FIELDS and not re.search(r"[<>]", value)
    ]
    assert len(arguments) >= 10
    for argument in arguments:
        draccus.parse(HierarchicalDiffusionConfig, args=["--device=cpu", argument])


@pytest.mark.parametrize("name", ["image_size", "layer_weights"])
def test_structured_fields_parse_from_the_command_line(name):
    value = {"image_size": "[64,80]", "layer_weights": '{"safety": 2.0}'}[name]
    config = draccus.parse(HierarchicalDiffusionConfig, args=["--device=cpu", f"--{name}={value}"])
    assert getattr(config, name) == {"image_size": (64, 80), "layer_weights": {"safety": 2.0}}[name]
