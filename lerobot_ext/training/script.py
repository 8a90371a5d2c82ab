# SPDX-License-Identifier: Apache-2.0
"""Finds the training script of this process; imports nothing to find out."""

import sys
from types import ModuleType

MODULE = "lerobot.scripts.lerobot_train"


def training_script() -> ModuleType | None:
    """The module that runs the training; `None` where this process is no `lerobot-train`.

    The script is imported before plugins are loaded. `python -m` (and `accelerate launch -m`) give it the
    name `__main__`.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name == MODULE:
        return main
    return sys.modules.get(MODULE)
