# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process can train on mixes; imports nothing heavy to find out."""

from lerobot_ext.switches import switched_on
from lerobot_ext.training.script import training_script

SWITCH = "LEROBOT_EXT_MIXING"


def mix_where_policies_are_trained() -> None:
    """Let `lerobot-train` take a dataset spec file for a dataset, if this process is one.

    Environment variable `LEROBOT_EXT_MIXING=off` leaves its datasets alone.

    Raises:
        ValueError: The switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    script = training_script()
    if not switched_on(SWITCH) or script is None:
        return
    # Imported here: it needs LeRobot's datasets, which are loaded by now.
    from lerobot_ext.mixing import train_hooks

    train_hooks.install(script)
