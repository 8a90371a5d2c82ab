# SPDX-License-Identifier: Apache-2.0
"""The `lerobot-ext` command line: it only dispatches to the commands that plugins contribute."""

from lerobot_ext.cli.command import Command, CommandError

__all__ = ["Command", "CommandError"]
