# SPDX-License-Identifier: Apache-2.0
"""Loads the video libraries, encodes and decodes a few frames; runs in a process of its own."""

import importlib
import importlib.util
import sys
from importlib import metadata
from typing import Any

# By codec: encoders in LeRobot's order of preference (`libsvtav1` is its default), and the decoder's name.
CODECS = {
    "h264": ("libx264", "libopenh264", "h264_videotoolbox"),
    "hevc": ("libx265", "hevc_videotoolbox"),
    "av1": ("libsvtav1", "libaom-av1"),
}
_SIZE, _FRAMES = 64, 4


def main(words: list[str]) -> int:
    """Answer with what was found."""
    from lerobot_ext.doctor.child import answer

    answer(look())
    return 0


def look() -> dict[str, Any]:
    """Versions, what loads, and what works.

    Returns:
        `dict`: `torch`, `torchcodec`, `av`: versions, empty when not installed; `torchcodec_error`; `ffmpeg`:
        the FFmpeg that torchcodec loaded; `av_error`, `av_ffmpeg`; `codecs`: by codec the encoder that works,
        whether it decodes, and the error.
    """
    found: dict[str, Any] = {name: _version(name) for name in ("torch", "torchcodec", "av")}
    found["torchcodec_error"], found["ffmpeg"] = _torchcodec() if found["torchcodec"] else ("", "")
    found |= _av() if found["av"] else {"av_error": "", "av_ffmpeg": "", "codecs": {}}
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _torchcodec() -> tuple[str, str]:
    """Why torchcodec does not load, in full, and the major version of the FFmpeg that it loaded."""
    try:
        # As LeRobot does in `get_safe_default_video_backend`
        importlib.import_module("torchcodec")
    except (ImportError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}", ""
    loaded = getattr(sys.modules["torchcodec"], "ffmpeg_major_version", "")
    return "", str(loaded)


def _av() -> dict[str, Any]:
    try:
        av = importlib.import_module("av")
    except (ImportError, OSError) as error:
        return {"av_error": f"{type(error).__name__}: {error}", "av_ffmpeg": "", "codecs": {}}
    version = getattr(av, "ffmpeg_version_info", "")
    return {
        "av_error": "",
        "av_ffmpeg": str(version),
        "codecs": {codec: try_codec(av, codec, encoders) for codec, encoders in CODECS.items()},
    }


def try_codec(av: Any, codec: str, encoders: tuple[str, ...]) -> dict[str, Any]:
    """Encode a few grey frames with the first encoder that works and decode them again.

    Returns:
        `dict`: `encoder` (empty when none works), `decodes`, `error`.
    """
    error = ""
    for encoder in encoders:
        if encoder not in av.codecs_available:
            error = error or f"this build of PyAV has no {encoder}"
            continue
        try:
            levels = _round_trip(av, encoder)
        except (av.FFmpegError, ValueError, OSError) as failure:
            error = f"{encoder}: {' '.join(str(failure).split())[:120]}"
            continue
        wanted = [_level(index) for index in range(_FRAMES)]
        right = len(levels) == _FRAMES and all(abs(a - b) < 12 for a, b in zip(levels, wanted, strict=True))
        wrong = "" if right else f"{encoder}: decoded grey levels {levels}, encoded {wanted}"
        return {"encoder": encoder, "decodes": right, "error": wrong}
    return {"encoder": "", "decodes": codec in av.codecs_available, "error": error}


def _level(index: int) -> int:
    return 40 + 40 * index


def _round_trip(av: Any, encoder: str) -> list[int]:
    """Mean grey level of each frame after encoding and decoding."""
    import io

    import numpy as np

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(encoder, 30)
        stream.width = stream.height = _SIZE
        stream.pix_fmt = "yuv420p"
        for index in range(_FRAMES):
            picture = np.full((_SIZE, _SIZE, 3), _level(index), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return [int(frame.to_ndarray(format="rgb24").mean().round()) for frame in container.decode(video=0)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
