# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process gets our pushes to the Hub; imports nothing heavy to find out."""

import sys
from types import ModuleType

from lerobot_ext.switches import switched_on

SWITCH = "LEROBOT_EXT_HUB"
_TRAIN_MODULE = "lerobot.scripts.lerobot_train"


def install_where_policies_are_trained() -> None:
    """Install `train_hooks` if this process is a `lerobot-train`.

    Its script is imported before plugins are loaded; other command lines never import it and must not pay.
    Environment variable `LEROBOT_EXT_HUB=off` leaves LeRobot's own push and card in place.

    Raises:
        ValueError: The switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    script = _training_script()
    if not switched_on(SWITCH) or script is None:
        return
    # Imported here: it needs LeRobot's policies, which are loaded by now.
    from lerobot_ext.hub import train_hooks

    train_hooks.install(script)


def _training_script() -> ModuleType | None:
    """The module that runs the training: `python -m` gives it the name `__main__`."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name == _TRAIN_MODULE:
        return main
    return sys.modules.get(_TRAIN_MODULE)
