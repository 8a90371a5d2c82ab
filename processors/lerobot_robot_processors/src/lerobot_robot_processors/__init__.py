# SPDX-License-Identifier: Apache-2.0
"""Processor steps for the stock LeRobot CLIs.

Importing this package imports no LeRobot. As soon as a process imports LeRobot's processors, every module of
`lerobot_robot_processors.steps` is imported and registers its steps: LeRobot loads saved pipelines from JSON
and knows only the steps that are registered by then.
"""

from lerobot_ext.plugins import load_all, when_imported

__version__ = "0.1.0"


def _register_steps() -> None:
    from lerobot_robot_processors import steps

    steps.register_all()


def _reset_between_episodes() -> None:
    from lerobot_robot_processors import episodes

    episodes.install()


when_imported("lerobot.processor", _register_steps)
when_imported("lerobot.scripts.lerobot_eval", _reset_between_episodes)
load_all()
