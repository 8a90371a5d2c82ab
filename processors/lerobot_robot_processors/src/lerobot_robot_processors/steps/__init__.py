# SPDX-License-Identifier: Apache-2.0
"""One module a step or inverse pair of steps; each registers what it defines when it is imported.

These modules are imported by every command that uses LeRobot's processors, so what is slow to import
(torchvision, mujoco) is imported where it is used.
"""

import pkgutil
from importlib import import_module


def register_all() -> None:
    """Import every module of this package, in alphabetical order; calling it again changes nothing."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name):
        import_module(f"{__name__}.{module.name}")
