# SPDX-License-Identifier: Apache-2.0
"""The videos and datasets that are read: synthetic pictures, LeRobot's own writer and encoder settings."""

from pathlib import Path
from typing import Any

import numpy as np

from lerobot_ext.recording.scene import scene

FPS, HEIGHT, WIDTH = 30, 480, 640
CAMERAS = tuple(f"observation.images.{name}" for name in ("top", "side", "wrist"))
CODECS = {"AV1": "libsvtav1", "h264": "h264", "hevc": "hevc"}
GOPS = (1, 2, 30)
N_ACTIONS = 100


def video(folder: Path, label: str, gop: int, n: int) -> Path:
    """A file with the options that LeRobot gives its encoder; written unless it is there."""
    import av
    from lerobot.configs import RGBEncoderConfig

    path = folder / f"{label}-{gop}-{n}.mp4"
    if path.exists():
        return path
    options = RGBEncoderConfig(vcodec=CODECS[label], g=gop).get_codec_options(as_strings=True)
    if label == "hevc":
        options["x265-params"] = "log-level=none"
    unfinished = path.with_suffix(".part.mp4")
    with av.open(str(unfinished), "w") as container:
        stream = container.add_stream(CODECS[label], rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in scene(n, seed=gop):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    unfinished.rename(path)
    return path


def dataset(folder: Path, label: str, episodes: int, length: int) -> Path:
    """Three cameras, joints and actions, through LeRobot's own writer; written unless it is there."""
    from lerobot.configs import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    root = folder / f"{label}-{episodes}x{length}"
    done = root / "meta" / "whole"
    if done.exists():
        return root
    if root.exists():
        raise SystemExit(f"{root} was not finished by an earlier run; remove it")
    pictures = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    joints = {"dtype": "float32", "shape": (6,), "names": None}
    features = {"observation.state": joints, "action": joints} | dict.fromkeys(CAMERAS, pictures)
    written = LeRobotDataset.create(
        "user/bench",
        FPS,
        features,
        root=root,
        use_videos=True,
        streaming_encoding=True,
        encoder_queue_maxsize=length + 1,  # LeRobot drops frames that do not fit
        rgb_encoder=RGBEncoderConfig(vcodec=CODECS[label]),
    )
    rng = np.random.default_rng(0)
    for episode in range(episodes):
        views = [scene(length, seed=9 * episode + view) for view in range(len(CAMERAS))]
        for shown in zip(*views, strict=True):
            frame: dict[str, Any] = dict(zip(CAMERAS, shown, strict=True))
            frame |= {key: rng.normal(size=6).astype(np.float32) for key in ("observation.state", "action")}
            written.add_frame({**frame, "task": "lift the cube"})
        written.save_episode()
    written.finalize()
    done.touch()
    return root
