# SPDX-License-Identifier: Apache-2.0
"""What the documentation says about act_plus's configuration is what the code does."""

import dataclasses
import re
from pathlib import Path

import draccus
from config_docs import check_docstring, check_readme, own_fields
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot_policy_act_plus import ActPlusConfig
from lerobot_policy_act_plus.command import presets

README = (Path(__file__).parents[2] / "policies/lerobot_policy_act_plus/README.md").read_text()
STOCK = {field.name for field in dataclasses.fields(ACTConfig)}
FIELDS = own_fields(ActPlusConfig, ACTConfig)


def test_stock_acts_fields_keep_their_defaults():
    theirs, ours = ACTConfig(device="cpu"), ActPlusConfig(device="cpu")
    assert {name: getattr(theirs, name) for name in STOCK} == {name: getattr(ours, name) for name in STOCK}


def test_docstring_lists_every_field_with_its_default():
    check_docstring(ActPlusConfig, FIELDS)


def test_readme_lists_every_field_with_its_default():
    check_readme(README, FIELDS)


def test_readme_options_are_fields_with_values_they_take():
    fixed = {"type", "repo_id", "path"}
    for line in README.splitlines():
        options = dict(re.findall(r"--policy\.(\w+)=([^\s`)]+)", line))
        chosen = {k: v for k, v in options.items() if k not in fixed and v != "FOLDER"}
        if not chosen:
            continue
        if "guidance" in chosen:
            chosen["advantage"] = "sign"
        if "commit_steps" in chosen:
            chosen["n_action_steps"] = "50"
        if chosen.get("advantage_key"):
            chosen["advantage"] = "sign"
        draccus.parse(ActPlusConfig, args=["--device=cpu", *(f"--{k}={v}" for k, v in chosen.items())])


def test_readme_trains_each_preset_by_one_line():
    lines = re.findall(r'--config_path="\$\(lerobot-ext presets (\w+)\)"', README)
    assert sorted(lines) == sorted(presets())
