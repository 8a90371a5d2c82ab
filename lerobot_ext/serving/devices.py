# SPDX-License-Identifier: Apache-2.0
"""A robot from `--robot.…` words, as the stock commands build it: any registered type, plugins included."""

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import draccus
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.utils.import_utils import register_third_party_plugins

from lerobot_ext.cli.command import CommandError
from lerobot_ext.plugins import describe_error


@dataclass
class _Words:
    """What draccus parses; its field gives the words their prefix."""

    robot: RobotConfig


def make_robot(words: Sequence[str]) -> Any:
    """The robot that `--robot.type=… --robot.port=…` describe; it is not connected.

    Raises:
        CommandError: The type is unknown, a field is wrong, or a package it needs is missing.
    """
    unavailable = register_everything()
    wanted = next((word.partition("=")[2] for word in words if word.startswith("--robot.type=")), "")
    known = sorted(RobotConfig.get_known_choices())
    if wanted not in known:
        failed = f" (these robots of LeRobot need packages that are missing: {'; '.join(unavailable)})"
        raise CommandError(
            f"--robot.type {wanted!r} is no registered robot",
            f"one of {', '.join(known)}{failed if unavailable else ''}; `lerobot-ext doctor` says why a "
            "plugin is missing",
        )
    try:
        config = draccus.parse(config_class=_Words, args=list(words)).robot
    except (draccus.ParsingError, draccus.utils.DecodingError, ValueError) as error:
        raise CommandError(f"the robot's options are wrong: {' '.join(str(error).split())}") from None
    try:
        return make_robot_from_config(config)
    except Exception as error:  # the plugin boundary
        raise CommandError(f"robot {wanted!r} cannot be built: {describe_error(error)}") from error


def register_everything() -> list[str]:
    """Register LeRobot's own robots and cameras, and every plugin's.

    Returns:
        What could not be imported, and why.
    """
    failed = []
    for package in ("lerobot.robots", "lerobot.cameras"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if module.ispkg:
                try:
                    importlib.import_module(f"{package}.{module.name}")
                except ImportError as error:
                    failed.append(f"{module.name}: {error}")
    register_third_party_plugins()
    return failed
