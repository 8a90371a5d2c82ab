# SPDX-License-Identifier: Apache-2.0
"""What the README says about the configuration is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import draccus
from config_docs import check_docstring, check_readme, own_fields
from lerobot.configs.policies import PreTrainedConfig
from lerobot_policy_q_chunking import QChunkingConfig

README = (Path(__file__).parents[2] / "policies" / "lerobot_policy_q_chunking" / "README.md").read_text()
FIELDS = own_fields(QChunkingConfig, PreTrainedConfig)


def test_docstring_lists_every_field_with_its_default():
    check_docstring(QChunkingConfig, FIELDS)


def test_readme_lists_every_field_with_its_default():
    check_readme(README, FIELDS)


def test_readme_options_are_valid_configurations():
    for line in re.findall(r"`(--policy\.[^`]*)`", README):
        # What is about another actor is tested with one.
        words = [w.removeprefix("--policy.") for w in line.split() if w.startswith("--policy.") and "=" in w]
        words = [word for word in words if not word.startswith(("actor.", "freeze_actor", "actor_lora"))]
        arguments = [f"--{word}" for word in words if not word.endswith("=")]
        draccus.parse(QChunkingConfig, args=["--device=cpu", *arguments])
