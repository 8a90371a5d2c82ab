# SPDX-License-Identifier: Apache-2.0
"""Who of this plugin is told what LeRobot's dataset writer does; imported only where datasets are written."""

import threading
from typing import TYPE_CHECKING, Final

from lerobot_ext.data.writer_hooks import WriterObserver, observe
from lerobot_robot_koch.signals import ENDINGS
from lerobot_robot_koch.stale_sidecar import SIDECAR

if TYPE_CHECKING:
    from lerobot.datasets.dataset_writer import DatasetWriter


class _Running(threading.local):
    """What is under way in a thread, innermost last: whether it finishes a dataset."""

    def __init__(self) -> None:
        self.with_finish: list[bool] = []


class SaveGuard(WriterObserver):
    """Keeps a signal from cutting an episode, or the dataset's end, in two."""

    def __init__(self) -> None:
        self._here = _Running()

    def busy(self, writer: "DatasetWriter", *, with_finish: bool) -> None:
        """Put interrupts off while an episode is saved, note them while the dataset is finished."""
        self._here.with_finish.append(with_finish)
        if with_finish:
            ENDINGS.start_ending()
        else:
            ENDINGS.start_saving()

    def idle(self, writer: "DatasetWriter") -> None:
        """Over; what was put off comes now."""
        if self._here.with_finish.pop():
            ENDINGS.stop_ending()
        else:
            ENDINGS.stop_saving()


SAVE_GUARD: Final = SaveGuard()


def watch() -> None:
    """Be told from now on; calling it again changes nothing."""
    observe(SAVE_GUARD)
    observe(SIDECAR)
