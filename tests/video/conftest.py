# SPDX-License-Identifier: Apache-2.0
"""Importing the plugin puts its backend in place; here each test starts and ends with stock's."""

import pytest
from lerobot_camera_pyav import backend


@pytest.fixture(autouse=True)
def stock():
    backend.uninstall()
    yield
    backend.uninstall()
