# SPDX-License-Identifier: Apache-2.0
"""What the cameras of a measurement see: the synthetic scene, a video, a dataset, or a real camera."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from lerobot_ext.cli.command import CommandError
from lerobot_ext.recording.load import Load
from lerobot_ext.recording.scene import Picture, scene

SCENE: Final = "scene"
_CAMERA = re.compile(r"camera(?::(.+))?")
_WARM_UP_READS: Final = 10  # a webcam's exposure settles


def pictures(source: str, load: Load, n: int) -> list[Picture]:
    """`n` pictures of the size that `load` says, or as many as a file has.

    Args:
        source (`str`): `scene`, a video file, a dataset's folder, or `camera:INDEX-OR-PATH`.
        load (`Load`): Size and rate.
        n (`int`): How many.

    Raises:
        CommandError: The source cannot be read, or has fewer than two pictures.
    """
    if source == SCENE:
        return list(scene(n, 0, load.height, load.width))
    camera = _CAMERA.fullmatch(source)
    found = (
        _from_camera(camera[1] or "0", load, n) if camera else _from_video(_video_in(Path(source)), load, n)
    )
    if len(found) < 2:
        raise CommandError(f"--source {source} has {len(found)} pictures", "take one with at least two")
    return found


def describe(source: str) -> str:
    """What the pictures are, for people."""
    if source == SCENE:
        return "a synthetic scene with noise (what your cameras see may cost more or less: --source)"
    return source


def _video_in(path: Path) -> Path:
    """The file itself, or the first camera's first video of a dataset's folder."""
    if path.is_file():
        return path
    info = path / "meta/info.json"
    if not info.is_file():
        raise CommandError(
            f"--source {path} is neither a video file nor the folder of a dataset",
            "say `scene`, a video, a folder with meta/info.json, or camera:0",
        )
    try:
        features = json.loads(info.read_text(encoding="utf-8"))["features"]
        keys = [key for key, ft in features.items() if ft["dtype"] == "video" and not _is_depth(ft)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"{info} is damaged: {error}", "`lerobot-ext repair` mends datasets") from error
    videos: list[Path] = sorted(file for key in keys for file in (path / "videos" / key).rglob("*.mp4"))
    if not videos:
        raise CommandError(f"dataset {path} has no video of a colour camera", "take another one, or `scene`")
    return videos[0]


def _is_depth(feature: dict[str, Any]) -> bool:
    about = feature.get("info") or {}
    return bool(about.get("is_depth_map") or about.get("video.is_depth_map"))


def _from_video(path: Path, load: Load, n: int) -> list[Picture]:
    try:
        with av.open(str(path)) as container:
            frames = container.decode(video=0)
            return [
                frame.reformat(load.width, load.height, "rgb24").to_ndarray()
                for frame, _ in zip(frames, range(n), strict=False)
            ]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise CommandError(f"--source {path} cannot be decoded: {error}", "take another video") from error


def _from_camera(name: str, load: Load, n: int) -> list[Picture]:
    from lerobot.cameras.opencv import OpenCVCamera, OpenCVCameraConfig

    index = int(name) if name.isdigit() else Path(name)
    camera = OpenCVCamera(OpenCVCameraConfig(index))
    try:
        camera.connect()
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise CommandError(
            f"camera {name} does not open: {' '.join(str(error).split())[:160]}",
            f"`lerobot-ext doctor --cameras {name}` says why",
        ) from error
    try:
        return list(_read(camera, load, n))
    except (RuntimeError, TimeoutError) as error:
        raise CommandError(
            f"camera {name} stopped: {error}", f"`lerobot-ext doctor --cameras {name}`"
        ) from error
    finally:
        camera.disconnect()


def _read(camera: Any, load: Load, n: int) -> Iterator[Picture]:
    for _ in range(_WARM_UP_READS):
        camera.async_read()
    for _ in range(n):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(camera.async_read()), "rgb24")
        yield frame.reformat(load.width, load.height, "rgb24").to_ndarray()
