# SPDX-License-Identifier: Apache-2.0
"""What pages mark with `<!-- run -->` works, in order, in a folder of its own and in tiny sizes."""

from pathlib import Path

import pytest
from doc_blocks import ROOT, blocks_of, pages
from doc_session import run_page, tiny

MARKED = [page for page in pages() if any(block.mark == "run" for block in blocks_of(page))]
# A translation has the blocks of its page (`test_translations.py`), which are run there.
RUN = [page for page in MARKED if ".zh-CN" not in page.name]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUN, ids=name)
def test_the_marked_commands_of_a_page_work(page, tmp_path):
    run_page(blocks_of(page), tmp_path)


def test_there_are_pages_to_run():
    assert len(RUN) >= 2


def test_sizes_are_replaced_in_both_spellings_and_added():
    words = tiny(["lerobot-ext", "demos", "--episodes", "50", "--task=lift"])
    assert words == ["lerobot-ext", "demos", "--episodes=2", "--task=lift"]
    words = tiny(["lerobot-train", "--policy.type=act", "--steps=3000", "--policy.dim_model=512"])
    assert {"--steps=2", "--policy.dim_model=16", "--num_workers=0"} <= set(words)
    assert "--steps=3000" not in words
