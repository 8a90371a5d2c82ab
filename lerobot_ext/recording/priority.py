# SPDX-License-Identifier: Apache-2.0
"""Keeps video encoders from taking the machine for themselves.

SVT-AV1, LeRobot's default encoder, gives its threads and the thread that opens it real-time priority 99 when
it runs as root, as in privileged containers and on many robots' computers, and never takes that back: from
the first saved episode on the recording loop, all it starts and the encoder run before everything else on
the machine, the serial port's and the cameras' threads included. For others than root it asks for nothing.
So while LeRobot encodes, the thread that does so gives up the right to such a priority, as if it were not
root.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from lerobot_ext.patches import Patch

_CAP_SYS_NICE: Final = 1 << 23
_VERSION_3: Final = 0x20080522
_patch = Patch("video encoding", lost="as root SVT-AV1 runs the recording at real-time priority 99")


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """While it lasts, this thread and those it starts cannot take a real-time priority; what they have stays.

    Changes nothing for others than root, on systems without Linux's capabilities, and where they are not to
    be had.
    """
    mine = _read() if sys.platform == "linux" and os.geteuid() == 0 else None
    if mine is None or not mine[0].effective & _CAP_SYS_NICE:
        yield
        return
    mine[0].effective &= ~_CAP_SYS_NICE
    gave_up = _write(mine)
    try:
        yield
    finally:
        if gave_up:
            mine[0].effective |= _CAP_SYS_NICE
            _write(mine)


def install() -> bool:
    """Encode so wherever LeRobot records: when it saves an episode, and while it streams one.

    Returns:
        Whether LeRobot's encoders do so now.
    """
    from lerobot.datasets import dataset_writer, video_utils

    return _patch.install(
        {
            (dataset_writer, "encode_video_frames"): _encode_video_frames,
            (video_utils._CameraEncoderThread, "run"): _run,
        }
    )


def uninstall() -> None:
    """Put LeRobot's own back."""
    _patch.uninstall()


def _encode_video_frames(*words: Any, **named: Any) -> Any:
    with ordinary_priority():
        return _patch.stock("encode_video_frames")(*words, **named)


def _run(thread: Any) -> None:
    with ordinary_priority():
        _patch.stock("run")(thread)


def _read() -> Any:
    """This thread's capabilities, the lower and the upper half; None where there are none."""
    mine = (_Capabilities * 2)()
    return mine if _call("capget", mine) else None


def _write(mine: Any) -> bool:
    return _call("capset", mine)


def _call(name: str, mine: Any) -> bool:
    function = getattr(ctypes.CDLL(None), name, None)
    return function is not None and function(ctypes.byref(_Header(_VERSION_3, 0)), mine) == 0
