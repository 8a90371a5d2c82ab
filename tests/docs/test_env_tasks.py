# SPDX-License-Identifier: Apache-2.0
"""Pages name every task of `--env.type=koch`, in the environment's order."""

import re

import pytest
from doc_blocks import ROOT
from lerobot_env_koch.tasks import TASKS, check_task

ENV = (ROOT / "robots/lerobot_env_koch/README.md").read_text(encoding="utf-8")


def first_column(table_head: str) -> list[str]:
    """The names in the first column of the table that begins with this line."""
    rows = ENV.split(table_head, 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `?(\w+)`? \|", rows, re.MULTILINE)


def test_the_row_of_a_mistyped_task_is_what_the_code_says():
    with pytest.raises(ValueError, match="the Koch environment has") as caught:
        check_task("lfit")
    assert f"| `` {caught.value} `` |" in ENV


@pytest.mark.parametrize("head", ["| `--env.task` |", "| task | success |"])
def test_a_table_has_a_row_for_each_task(head):
    assert first_column(head) == list(TASKS)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("README.md", f"({', '.join(TASKS)})"),
        ("README.zh-CN.md", "、".join(TASKS)),
        ("docs/troubleshooting.md", ", ".join(f"`{task}`" for task in TASKS)),
    ],
)
def test_a_page_lists_the_tasks(page, said):
    assert said in (ROOT / page).read_text(encoding="utf-8")
