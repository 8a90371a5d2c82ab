# SPDX-License-Identifier: Apache-2.0
"""What the README says about the configuration is what the code does."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import draccus
from lerobot.configs.policies import PreTrainedConfig
from lerobot_policy_q_chunking import QChunkingConfig

README = (Path(__file__).parents[2] / "policies" / "lerobot_policy_q_chunking" / "README.md").read_text()
INHERITED = {field.name for field in dataclasses.fields(PreTrainedConfig)}
FIELDS = {f.name: f for f in dataclasses.fields(QChunkingConfig) if f.name not in INHERITED}


def test_docstring_lists_every_field_with_its_default():
    pattern = r"^\s+(\w+) \(`[^`]+`, \*optional\*(?:, defaults to `([^`]*)`)?\)"
    documented = dict(re.findall(pattern, QChunkingConfig.__doc__ or "", re.MULTILINE))
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
        # What is about another actor is tested with one.
        words = [w.removeprefix("--policy.") for w in line.split() if w.startswith("--policy.") and "=" in w]
        words = [word for word in words if not word.startswith(("actor.", "freeze_actor", "actor_lora"))]
        arguments = [f"--{word}" for word in words if not word.endswith("=")]
        draccus.parse(QChunkingConfig, args=["--device=cpu", *arguments])
