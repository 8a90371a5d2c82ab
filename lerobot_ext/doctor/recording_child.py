# SPDX-License-Identifier: Apache-2.0
"""Encodes with LeRobot's default for a second or two; runs in a process of its own."""

import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from lerobot_ext.recording.load import Load

_FRAMES: Final = 30


def main(words: list[str]) -> int:
    """Answer with what was found."""
    from lerobot_ext.doctor.child import answer

    answer(look(Load.parse(words[0])))
    return 0


def look(load: Load) -> dict[str, Any]:
    """How fast LeRobot's default encoder is with all cameras at once.

    Returns:
        `dict`: `frames_per_s` of all cameras together, `cpu_ms` a frame, and `flags` that are known to hold.
    """
    from lerobot_ext.recording import store, trial
    from lerobot_ext.recording.candidates import STOCK
    from lerobot_ext.recording.scene import scene

    n = trial.frames_within_memory(load, _FRAMES)
    pictures = list(scene(n, 0, load.height, load.width))
    with trial.quiet(), tempfile.TemporaryDirectory() as folder:
        effort = trial.encode(STOCK, load, pictures, Path(folder), n)
    return {
        "frames_per_s": effort.frames_per_s,
        "cpu_ms": effort.cpu_ms,
        "flags": store.recall(load),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
