# SPDX-License-Identifier: Apache-2.0
"""docs/check.md: its commands parse, and the rules and hooks that it names exist."""

import argparse
import re
import shlex
from pathlib import Path

import lerobot_ext.testing
from lerobot_ext.testing.check_child import matches
from lerobot_ext.testing.check_command import CHECK
from lerobot_ext.testing.check_kinds import KINDS, contract_class

TEXT = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
RULES = {rule.name for kind in KINDS for rule in contract_class(kind).rules()}


def test_commands_parse_and_name_rules_that_exist():
    parser = argparse.ArgumentParser()
    CHECK.configure(parser)
    commands = re.findall(r"^lerobot-ext check (.*?)(?:  +#.*)?$", TEXT, flags=re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        for pattern in parser.parse_args(shlex.split(command)).only:
            assert any(matches(rule, [pattern]) for rule in RULES), pattern


def test_rules_that_are_named_exist():
    named = re.findall(r"`((?:robot|teleoperator|camera|env)/[\w-]+)`", TEXT)
    table = TEXT.partition("| What |")[2]
    named += [
        word for word in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", table) if not word.startswith("lerobot-")
    ]
    assert len(named) > 8
    for rule in named:
        assert any(matches(known, [rule]) for known in RULES), rule


def test_hooks_that_are_named_exist():
    rows = re.findall(r"^\| `(\w+Contract)` \| (.*) \|$", TEXT, flags=re.MULTILINE)
    assert len(rows) == 4
    for contract, cells in rows:
        for hook in re.findall(r"`(\w+)`", cells):
            assert callable(getattr(getattr(lerobot_ext.testing, contract), hook)), hook
