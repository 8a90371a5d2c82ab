# SPDX-License-Identifier: Apache-2.0
"""The wheels are built once for all tests of this folder; they run in one worker for it."""

from pathlib import Path

import pytest
from our_wheels import build_wheels


@pytest.fixture(scope="session")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """One wheel of each distribution, built from its folder."""
    return build_wheels(tmp_path_factory.mktemp("wheels"))
