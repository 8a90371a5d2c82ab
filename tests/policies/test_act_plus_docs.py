# SPDX-License-Identifier: Apache-2.0
"""What the documentation says about act_plus's configuration is what the code does."""

import ast
import dataclasses
import re
from pathlib import Path

import draccus
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot_policy_act_plus import ActPlusConfig
from lerobot_policy_act_plus.command import presets

README = (Path(__file__).parents[2] / "policies/lerobot_policy_act_plus/README.md").read_text()
STOCK = {field.name for field in dataclasses.fields(ACTConfig)}
FIELDS = {f.name: f for f in dataclasses.fields(ActPlusConfig) if f.name not in STOCK}


def test_stock_acts_fields_keep_their_defaults():
    theirs, ours = ACTConfig(device="cpu"), ActPlusConfig(device="cpu")
    assert {name: getattr(theirs, name) for name in STOCK} == {name: getattr(ours, name) for name in STOCK}


def test_docstring_lists_every_field_with_its_default():
    pattern = r"^\s+(\w+) \(`[^`]+`, \*optional\*(?:, defaults to `([^`]*)`)?\)"
    documented = dict(re.findall(pattern, ActPlusConfig.__doc__ or "", re.MULTILINE))
    assert list(documented) == [name for name in FIELDS if name != "extra_steps"]  # its own base has that
    for name, default in documented.items():
        if default:
            assert ast.literal_eval(default) == FIELDS[name].default, name


def test_readme_lists_every_field_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", README, re.MULTILINE))
    assert set(FIELDS) <= set(rows)
    for name, field in FIELDS.items():
        shown = rows[name].strip()
        if shown.startswith("`"):
            assert ast.literal_eval(shown.strip("`")) == field.default, name


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
