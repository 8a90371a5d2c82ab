# SPDX-License-Identifier: Apache-2.0
"""The wheels are built once for all tests of this folder."""

import os
from pathlib import Path

import pytest
from filelock import FileLock
from our_wheels import FOLDERS, build_wheels


@pytest.fixture(scope="session")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """One wheel of each distribution, built from its folder; workers share them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "our_wheels"
    done = folder / "done"
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            folder.mkdir(exist_ok=True)
            build_wheels(folder)
            done.touch()
    return {name: next(folder.glob(f"{name}-*.whl")) for name in FOLDERS}
