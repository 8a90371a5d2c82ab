# SPDX-License-Identifier: Apache-2.0
"""The lists of `docs/offline_rl.md` are the code's."""

import importlib
import pkgutil
import re
from pathlib import Path

from doc_commands import options_of

import lerobot_ext.offline_rl

TEXT = (Path(__file__).parents[2] / "docs" / "offline_rl.md").read_text(encoding="utf-8")


def test_every_option_of_fqe_is_explained():
    rows = "\n".join(line for line in TEXT.splitlines() if line.startswith("| `--"))
    assert options_of("fqe") <= set(re.findall(r"--[\w-]+", rows))


def test_every_module_is_named_on_the_page_and_in_the_package():
    modules = {found.name for found in pkgutil.iter_modules(lerobot_ext.offline_rl.__path__)}
    named = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.M)) & modules
    assert modules - named == {"fqe_command", "fqe_session"}
    listed = set(re.findall(r"^- `(\w+)`:", lerobot_ext.offline_rl.__doc__ or "", re.M))
    assert listed == named
    for name in modules:
        assert importlib.import_module(f"lerobot_ext.offline_rl.{name}").__doc__
