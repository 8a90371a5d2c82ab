# SPDX-License-Identifier: Apache-2.0
"""`docs/export.md` and `docs/memory.md` explain every option, and their lists are the code's."""

import re
from pathlib import Path

import pytest
from doc_commands import options_of

from lerobot_ext.training import memory_peaks

DOCS = Path(__file__).parents[2] / "docs"
TEXTS = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("export", "memory")}


@pytest.mark.parametrize(
    ("page", "name"), [("export", "export"), ("memory", "memory"), ("memory", "checkpoints-diff")]
)
def test_every_option_is_explained(page, name):
    missing = {option for option in options_of(name) if option not in TEXTS[page]}
    assert not missing


def test_the_columns_of_the_trainer_are_those_that_are_written():
    phases = ("forward", "backward", "optimizer", "update")
    assert set(re.findall(r"`(memory/\w+)`", TEXTS["memory"])) == {
        memory_peaks.COLUMN.format(phase) for phase in phases
    }
