# SPDX-License-Identifier: Apache-2.0
"""Opens one camera, takes some frames and measures them; runs in a process of its own, since drivers hang.

Words: `opencv TARGET FRAMES` with an index, a device or a file, or `zmq HOST:PORT TIMEOUT_S`.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

_PATIENCE_S = 8.0
_WARM_UP = 5
"""The first frames of a webcam come late, and all at once."""


def main(words: list[str]) -> int:
    """Answer with what was measured."""
    from lerobot_ext.doctor.child import answer

    kind, target, number = words
    answer(measure(target, int(number)) if kind == "opencv" else listen(target, float(number)))
    return 0


def measure(
    target: str,
    n_frames: int,
    open_capture: Callable[[Any], Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Open a camera as LeRobot does, by default with its own settings, and time its frames.

    Args:
        target (`str`): Index, device file, or a video file.
        n_frames (`int`): Frames to time, after those for warming up.
        open_capture (`Callable`, *optional*): Stands for `cv2.VideoCapture`.
        clock (`Callable`, *optional*): Tells the time in seconds.

    Returns:
        `dict`: `opened`; `backend`; `claimed`: fps, width, height as the driver tells; `frames`, `failed`:
        reads; `fps`: measured, `None` for fewer than two frames; `width`, `height`: of the frames;
        `distinct`: how many differ from the one before.
    """
    import cv2

    source: Any = int(target) if target.isdecimal() else target
    capture = (open_capture or cv2.VideoCapture)(source)
    try:
        if not capture.isOpened():
            return {"opened": False}
        claimed = {
            "fps": float(capture.get(cv2.CAP_PROP_FPS)),
            "width": round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            "height": round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        }
        return {"opened": True, "backend": capture.getBackendName(), "claimed": claimed} | _time_frames(
            capture, n_frames, clock
        )
    finally:
        capture.release()


def _time_frames(capture: Any, n_frames: int, clock: Callable[[], float]) -> dict[str, Any]:
    times: list[float] = []
    failed = distinct = 0
    width = height = 0
    before = None
    end = time.monotonic() + _PATIENCE_S
    while len(times) < n_frames + _WARM_UP and failed < n_frames and time.monotonic() < end:
        good, frame = capture.read()
        if not good or frame is None:
            failed += 1
            continue
        times.append(clock())
        height, width = frame.shape[:2]
        distinct += before is None or bool((frame != before).any())
        before = frame
    timed = times[_WARM_UP:]
    span = timed[-1] - timed[0] if len(timed) > 1 else 0.0
    return {
        "frames": len(times),
        "failed": failed,
        "fps": round((len(timed) - 1) / span, 1) if span > 0 else None,
        "width": width,
        "height": height,
        "distinct": distinct,
    }


def listen(address: str, timeout_s: float) -> dict[str, Any]:
    """Listen to a publisher of LeRobot's `zmq` cameras for a second.

    Args:
        address (`str`): `HOST:PORT`.
        timeout_s (`float`): How long to wait for its first message.

    Returns:
        `dict`: `messages`, `fps`, `error`; `cameras`: by name `width` and `height`, 0 when it
        does not decode.
    """
    zmq = _zmq()
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        socket.setsockopt_string(zmq.SUBSCRIBE, "")
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, round(timeout_s * 1000))
        socket.connect(f"tcp://{address}")
        return _count_messages(socket)
    except zmq.Again:
        return {"messages": 0, "fps": None, "cameras": {}, "error": ""}
    except zmq.ZMQError as error:
        return {"messages": 0, "fps": None, "cameras": {}, "error": str(error)}
    finally:
        socket.close()
        context.term()


def _zmq() -> Any:
    import zmq

    return zmq


def _count_messages(socket: Any) -> dict[str, Any]:
    import json

    zmq = _zmq()
    times: list[float] = []
    text = ""
    while not times or times[-1] - times[0] < 1.0:
        try:
            text = socket.recv_string()
        except zmq.Again:
            if not times:
                raise
            break
        except UnicodeDecodeError as error:
            return {"messages": 1, "fps": None, "cameras": {}, "error": f"not text: {error}"}
        times.append(time.perf_counter())
    span = times[-1] - times[0]
    found: dict[str, Any] = {"messages": len(times), "error": "", "cameras": {}}
    found["fps"] = round((len(times) - 1) / span, 1) if span > 0 else None
    try:
        images = json.loads(text)["images"]
        found["cameras"] = {name: _size(image) for name, image in images.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        found["error"] = f"not a message of LeRobot's ({type(error).__name__}: {error})"
    return found


def _size(image: str) -> dict[str, int]:
    import base64

    import cv2
    import numpy as np

    try:
        frame = cv2.imdecode(np.frombuffer(base64.b64decode(image), np.uint8), cv2.IMREAD_COLOR)
    except (ValueError, TypeError, cv2.error):
        frame = None
    return {"width": 0, "height": 0} if frame is None else {"width": frame.shape[1], "height": frame.shape[0]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
