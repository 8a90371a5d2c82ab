# SPDX-License-Identifier: Apache-2.0
"""Decides what a process that records gets; imports nothing heavy to find out."""

import sys

from lerobot_ext.switches import switched_on

SWITCH = "LEROBOT_EXT_RECORDING_WATCH"
PRIORITY_SWITCH = "LEROBOT_EXT_ENCODER_PRIORITY"
_WRITER_MODULE = "lerobot.datasets.dataset_writer"


def watch_where_datasets_are_written() -> None:
    """Watch over the recordings of this process if it has imported LeRobot's dataset writer.

    The stock command lines that record (record, rollout) import it before they load plugins; teleoperate does
    not. A script of your own calls `watch.start()`. Environment variable `LEROBOT_EXT_RECORDING_WATCH=off`
    keeps it away.

    Raises:
        ValueError: The switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    if not switched_on(SWITCH) or _WRITER_MODULE not in sys.modules:
        return
    from lerobot_ext.recording import watch

    watch.start()


def prepare_encoding_where_datasets_are_written() -> None:
    """What keeps an encoder from holding up a recording, if this process has imported the dataset writer.

    Raises:
        ValueError: The switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    if _WRITER_MODULE not in sys.modules:
        return
    from lerobot_ext.recording import forks

    forks.leave_what_is_inherited()
    encode_at_ordinary_priority()


def encode_at_ordinary_priority() -> None:
    """Keep LeRobot's video encoders in this process from real-time priority.

    Environment variable `LEROBOT_EXT_ENCODER_PRIORITY=off` leaves them as they are.

    Raises:
        ValueError: The switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    if switched_on(PRIORITY_SWITCH):
        from lerobot_ext.recording import priority

        priority.install()
