# SPDX-License-Identifier: Apache-2.0
"""What a connected device switches on for its process: orderly endings, and a record of stale values.

Both need LeRobot's dataset writer to tell them what it does. Only a process that has imported it can record:
teleoperate and calibrate do not pay for it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from lerobot_robot_koch.signals import ENDINGS

_WRITER_MODULE = "lerobot.datasets.dataset_writer"


@contextmanager
def connecting(device: object) -> Iterator[None]:
    """Around a device's `connect`: from its begin on signals end the program in order."""
    if not ENDINGS.hold(device):
        yield  # connected already, which LeRobot refuses
        return
    try:
        if _WRITER_MODULE in sys.modules:
            import_module("lerobot_robot_koch.recording").watch()
        yield
    except BaseException:
        ENDINGS.release(device)
        raise


@contextmanager
def disconnecting(device: object) -> Iterator[None]:
    """Around a device's `disconnect`: no signal breaks it, and none is taken after it."""
    try:
        with ENDINGS.ending():
            yield
    finally:
        ENDINGS.release(device)
