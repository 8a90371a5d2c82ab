# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process gets our dataset reading; imports nothing heavy to find out."""

import os
import sys

SWITCH = "LEROBOT_EXT_COLUMNS"
_DATASET_MODULE = "lerobot.datasets.lerobot_dataset"


def install_where_datasets_are_read() -> None:
    """Install `ram_reader` and `camera_window` if this process has imported LeRobot's dataset class.

    The stock command lines that read datasets (train, replay, record, rollout, eval) import that class before
    they load plugins; those that do not (calibrate, teleoperate) never do, and must not pay for it. So there
    is nothing to wait for, and no import hook is needed. A script of your own calls `ram_reader.install()`
    itself.

    Environment variable `LEROBOT_EXT_COLUMNS=off` leaves the stock reader in place.

    Raises:
        ValueError: The switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    switch = os.environ.get(SWITCH, "on").strip().lower() or "on"
    if switch not in ("on", "off"):
        raise ValueError(f"environment variable {SWITCH} is {switch!r}; set it to `on` or `off`, or unset it")
    if switch == "off" or _DATASET_MODULE not in sys.modules:
        return
    # Imported here: it needs torch, pyarrow and lerobot.datasets, which are loaded by now.
    from lerobot_ext.data import camera_window, ram_reader

    ram_reader.install()
    camera_window.install()
