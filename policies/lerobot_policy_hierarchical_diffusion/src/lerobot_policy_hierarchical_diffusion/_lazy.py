# SPDX-License-Identifier: Apache-2.0
"""Register parts of this plugin at the moment LeRobot can use them, and not before.

`lerobot-calibrate` and `lerobot-setup-motors` load every plugin but never import LeRobot's policy
configuration, which takes seconds (torchvision). Importing it on their account would cost them more than all
they do themselves.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def after_import(module: str, callback: Callable[[], None]) -> None:
    """Call `callback` once `module` has been imported: now if it has been, else right after its import.

    Args:
        module (`str`): Absolute name of a module.
        callback (`Callable[[], None]`): Called once, without arguments.
    """
    if module in sys.modules:
        callback()
    else:
        sys.meta_path.insert(0, _AfterImport(module, callback))


class _AfterImport(MetaPathFinder):
    """Waits for the import of one module, lets the usual finders do it, and runs a callback after it."""

    def __init__(self, module: str, callback: Callable[[], None]) -> None:
        self._module = module
        self._callback = callback

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answer for the awaited module only."""
        if fullname != self._module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Notifying(spec.loader, self._callback)
        return spec


class _Notifying(Loader):
    """A loader that runs a callback after it has executed a module."""

    def __init__(self, loader: Loader, callback: Callable[[], None]) -> None:
        self._loader = loader
        self._callback = callback

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave creation to the usual loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, hand it back to its own loader, then call."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._callback()
