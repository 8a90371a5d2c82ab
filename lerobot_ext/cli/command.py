# SPDX-License-Identifier: Apache-2.0
"""What a plugin hands to `lerobot-ext`: one `Command` per entry point of group `lerobot_ext.commands`."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One subcommand of `lerobot-ext`.

    The module that defines it must be cheap to import (no torch, mujoco, LeRobot): `lerobot-ext --help`
    imports every command. Heavy imports belong inside `run`.

    Args:
        name (`str`): What the user types after `lerobot-ext`.
        summary (`str`): One line for `lerobot-ext --help`.
        example (`str`): A complete command line, shown at the end of `lerobot-ext NAME --help`.
        configure (`Callable`): Adds the command's arguments to its parser.
        run (`Callable`): Does the work and returns the exit code; a `CommandError` becomes one clear line.
        pass_on (`tuple[str, ...]`, *optional*): Options that begin so, `--robot.` say, are not the parser's:
            the command gets them, with their values, as `passed_on` of the namespace, for LeRobot's parser.
    """

    name: str
    summary: str
    example: str
    configure: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]
    pass_on: tuple[str, ...] = ()


class CommandError(Exception):
    """A failure the user can mend: what went wrong, and in `remedy` what to do next."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


def count(text: str) -> int:
    """Type of an argument that counts something, so 1 or more.

    Raises:
        ArgumentTypeError: It is no such number.
    """
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number: 1 or more")
    return int(text)
