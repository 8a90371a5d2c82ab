# SPDX-License-Identifier: Apache-2.0
"""Decodes frames of a dataset's videos with each backend; runs in a process of its own: decoders can die.

Word: a JSON file with a list of jobs, each `path`, `times` (seconds) and `depth`.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOLERANCE_S = 1e-4
# Two decoders turn YUV into RGB a little differently; another frame is another matter.
MAX_MEAN_DIFFERENCE = 8.0

Decoder = Callable[[str, float, bool], Any]


def main(words: list[str]) -> int:
    """Answer with the results of all jobs."""
    from lerobot_ext.doctor.child import answer

    jobs = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    decoders = installed()
    answer({"backends": list(decoders), "results": [try_job(job, decoders) for job in jobs]})
    return 0


def installed() -> dict[str, Decoder]:
    """LeRobot's own decoding function, by backend that loads here."""
    import importlib

    from lerobot.datasets.video_utils import decode_video_frames

    def decoder(backend: str) -> Decoder:
        def decode(path: str, time_s: float, depth: bool) -> Any:
            frames = decode_video_frames(
                path, [time_s], TOLERANCE_S, backend, return_uint8=True, is_depth=depth
            )
            return frames[0].numpy()

        return decode

    names = ["pyav"]
    try:
        importlib.import_module("torchcodec")
        names.append("torchcodec")
    except (ImportError, OSError, RuntimeError):
        pass  # `--video` says why
    return {name: decoder(name) for name in names}


def try_job(job: dict[str, Any], decoders: dict[str, Decoder]) -> dict[str, Any]:
    """Decode a file's frames with every backend and compare.

    Returns:
        `dict`: `path`, `errors` (by backend), `shape` of a frame, `fps` of the stream, `differs` (mean
        difference of two backends' frames in grey levels, the worst of all times).
    """
    result: dict[str, Any] = {"path": job["path"], "errors": {}, "shape": [], "fps": 0.0, "differs": 0.0}
    result["fps"] = _stream_fps(job["path"])
    for time_s in job["times"]:
        frames = {}
        for backend, decode in decoders.items():
            if backend in result["errors"] or (job["depth"] and backend != "pyav"):
                continue  # LeRobot decodes depth with PyAV alone
            try:
                frames[backend] = decode(job["path"], time_s, job["depth"])
            except (Exception, SystemExit) as error:  # noqa: BLE001 - every decoder has errors of its own
                text = " ".join(str(error).split())[:160]
                result["errors"][backend] = f"at {time_s:.3f} s: {type(error).__name__}: {text}"
        result["differs"] = max(result["differs"], _difference(list(frames.values())))
        for frame in frames.values():
            result["shape"] = list(frame.shape)
    return result


def _difference(frames: list[Any]) -> float:
    import numpy as np

    if len(frames) < 2 or frames[0].shape != frames[1].shape:
        return 255.0 if len(frames) > 1 else 0.0
    return float(np.abs(frames[0].astype(float) - frames[1].astype(float)).mean())


def _stream_fps(path: str) -> float:
    import av

    try:
        with av.open(path) as container:
            return float(container.streams.video[0].average_rate or 0)
    except (OSError, av.FFmpegError, IndexError):
        return 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
