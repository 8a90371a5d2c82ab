# SPDX-License-Identifier: Apache-2.0
"""Installs the toy plugins of `tests/plugins` for a test module and for the fresh processes it asks."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lerobot_ext.testing.distributions import write_distribution

PLUGINS = Path(__file__).parents[1] / "plugins"
LATE = ("configuration_late", "processor_late", "steps_late")


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Both distributions are on the path, imported as LeRobot would; their `late` parts besides.

    Args:
        folder (`Path`): For their metadata.
    """
    names = ("lerobot_policy_toy", "lerobot_policy_broken")
    for name in names:
        write_distribution(folder, name)
    added = [str(PLUGINS), str(folder)]
    sys.path[:0] = added
    try:
        for name in (*names, *(f"lerobot_policy_broken.late.{part}" for part in LATE)):
            importlib.import_module(name)
        yield
    finally:
        for path in added:
            sys.path.remove(path)
