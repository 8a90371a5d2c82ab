# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process gets steps from a file; imports nothing heavy to find out."""

import os
import sys

VARIABLE = "LEROBOT_EXT_PIPELINES"
POLICY_VARIABLE = "LEROBOT_EXT_POLICY_STEPS"
_FACTORY = "lerobot.processor.factory"


def run_around_robots() -> None:
    """Put the pipelines of file `LEROBOT_EXT_PIPELINES` around the robot of a stock command line.

    Without the variable, or in a process that drives no robot, nothing is done. The file is read when the
    command asks for its pipelines, before it connects anything: a wrong file ends it then.
    """
    if not os.environ.get(VARIABLE) or _FACTORY not in sys.modules:
        return
    # Imported here: it needs LeRobot's processors, which are loaded by now.
    from lerobot_ext.pipelines import defaults

    defaults.install(os.environ[VARIABLE])


def train_with_extra_steps() -> None:
    """Give `lerobot-train` `--policy.extra_steps` and `LEROBOT_EXT_POLICY_STEPS`, if this process is one."""
    from lerobot_ext.training.script import training_script

    script = training_script()
    if script is None:
        return
    from lerobot_ext.pipelines import training

    training.install(script)
