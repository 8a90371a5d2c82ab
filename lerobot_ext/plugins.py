# SPDX-License-Identifier: Apache-2.0
"""Loads every plugin of entry-point group `lerobot_ext.plugins` once."""


def load_all() -> None:
    """Load all plugins of the group."""
