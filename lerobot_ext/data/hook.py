# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process gets our dataset reading and journal; imports nothing heavy to find out."""

import sys

from lerobot_ext.data.pool.budget import POOL, budget_from_environment
from lerobot_ext.switches import switched_on

SWITCH = "LEROBOT_EXT_COLUMNS"
JOURNAL_SWITCH = "LEROBOT_EXT_JOURNAL"
_DATASET_MODULE = "lerobot.datasets.lerobot_dataset"
_WRITER_MODULE = "lerobot.datasets.dataset_writer"


def install_where_datasets_are_read() -> None:
    """Install `ram_reader` and `camera_window` if this process has imported LeRobot's dataset class.

    The stock command lines that read datasets (train, replay, record, rollout, eval) import that class before
    they load plugins; those that do not (calibrate, teleoperate) never do, and must not pay for it. So there
    is nothing to wait for, and no import hook is needed. A script of your own calls `ram_reader.install()`
    itself.

    Environment variable `LEROBOT_EXT_COLUMNS=off` leaves the stock reader in place; `LEROBOT_EXT_POOL` has
    pictures served from memory (`lerobot_ext.data.pool`); `LEROBOT_EXT_BATCHES=off` leaves batches to torch.

    Raises:
        ValueError: A switch is neither `on` nor `off`, or the pool's or the batches' variable cannot be
            read; the plugin loader turns that into one line.
    """
    if not switched_on(SWITCH):
        if budget_from_environment() is not None:
            raise ValueError(
                f"environment variable {POOL} needs the columns in RAM: unset {SWITCH}, or {POOL}"
            )
        return
    if _DATASET_MODULE not in sys.modules:
        return
    # Imported here: it needs torch, pyarrow and lerobot.datasets, which are loaded by now.
    from lerobot_ext.data import batches, camera_window, ram_reader

    batches.install()
    camera_window.install()
    # A budget that cannot be read is told here, and again, as an error, by the reader that should keep to it.
    if ram_reader.install() and budget_from_environment() is not None:
        from lerobot_ext.data.pool import sampler

        sampler.install()


def install_where_datasets_are_written() -> None:
    """Journal the recordings of this process if it has imported LeRobot's dataset writer.

    The stock command lines that record (record, rollout) import it before they load plugins. A script of your
    own calls `episode_journal.start()`. Environment variable `LEROBOT_EXT_JOURNAL=off` keeps the journal from
    being written.

    Raises:
        ValueError: The switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    if not switched_on(JOURNAL_SWITCH) or _WRITER_MODULE not in sys.modules:
        return
    from lerobot_ext.data import episode_journal

    episode_journal.start()
