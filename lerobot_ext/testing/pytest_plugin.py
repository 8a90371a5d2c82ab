# SPDX-License-Identifier: Apache-2.0
"""Fixtures of ours in every pytest run; importing this must stay cheap."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lerobot_ext.testing.hub import HubServer


@pytest.fixture
def loopback_hub(tmp_path: Path) -> "Iterator[HubServer]":
    """A Hub on loopback that the Hub client of this process, and of those it starts, uses during a test.

    `loopback_hub.store` holds what was pushed; any non-empty token is that of `user`.
    """
    from lerobot_ext.testing.hub import HubServer, in_this_process

    with HubServer(tmp_path / "loopback_hub") as server, in_this_process(server, tmp_path / "hub_home"):
        yield server
