# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process gets the watch over its recordings; imports nothing heavy to find out."""

import sys

from lerobot_ext.switches import switched_on

SWITCH = "LEROBOT_EXT_RECORDING_WATCH"
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
