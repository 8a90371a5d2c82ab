# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process gets our pushes to the Hub; imports nothing heavy to find out."""

from lerobot_ext.switches import switched_on
from lerobot_ext.training.script import training_script

SWITCH = "LEROBOT_EXT_HUB"


def install_where_policies_are_trained() -> None:
    """Install `train_hooks` if this process is a `lerobot-train`.

    Its script is imported before plugins are loaded; other command lines never import it and must not pay.
    Environment variable `LEROBOT_EXT_HUB=off` leaves LeRobot's own push and card in place.

    Raises:
        ValueError: The switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    script = training_script()
    if not switched_on(SWITCH) or script is None:
        return
    # Imported here: it needs LeRobot's policies, which are loaded by now.
    from lerobot_ext.hub import train_hooks

    train_hooks.install(script)
