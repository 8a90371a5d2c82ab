# SPDX-License-Identifier: Apache-2.0
"""Keeps a forked process from freeing what it inherited.

LeRobot encodes the videos of an episode in forked processes, one a camera. Such a process has copies of all
objects of the recording, but none of its threads. Once its garbage collector meets an encoder or a decoder
that the recording had let go of in a cycle, FFmpeg waits there for threads that do not exist: the process
stands still, and the recording, which waits for it, with it, for ever. What was inherited is therefore left
to the end of the process, when the system takes it all.
"""

import gc
import os

_told = False


def leave_what_is_inherited() -> None:
    """From now on a process that is forked from this one never collects what existed before it."""
    global _told
    if not _told and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=gc.freeze)
        _told = True
