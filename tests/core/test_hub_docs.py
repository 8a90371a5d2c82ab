# SPDX-License-Identifier: Apache-2.0
"""docs/hub.md: its figures and names are those of the code."""

import re
from pathlib import Path

from lerobot_ext.hub import hook, plot, pull_command, push, requirements, train_hooks
from lerobot_ext.hub.history import MAX_POINTS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "hub.md").read_text()


def test_the_example_of_requirements_is_one():
    [example] = re.findall(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)
    needs = requirements.parse_requirements(example.encode(), "docs/hub.md")
    assert needs.policy == "hierarchical_diffusion"
    assert needs.packages[0].provides


def test_figures_and_names_are_those_of_the_code():
    tests = (ROOT / "tests" / "core" / "test_hub_push.py").read_text()
    assert '(found["requests"], found["commits"]) == (19, 3)' in tests
    assert "| LeRobot 0.6.1 | 19 | 3 |" in TEXT
    assert "assert len(hub.requests) == 12" in tests
    assert "| with our plugins | 12 | 1 |" in TEXT
    assert push.TRIES == 4
    assert "tried four times" in TEXT
    assert f"at most {MAX_POINTS} points" in TEXT
    assert f"exit code {pull_command.EXIT_PACKAGES} " in TEXT
    for name in (f"{hook.SWITCH}=off", plot.FILE_NAME, requirements.FILE_NAME, "not_pushed"):
        assert name in TEXT, name
    assert train_hooks.MESSAGE
