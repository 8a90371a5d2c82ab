# SPDX-License-Identifier: Apache-2.0
"""Synthetic recordings of each layout: shapes that move with the joints, rewards where they meet."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lerobot_ext.importing.layouts import LAPO_CAMERAS

EPISODE: Final = 100
_WIDTH: Final = {"lapo": 16, "robomimic": 7, "aloha": 14}


def write_sample(path: Path, layout: str, n_frames: int, *, size: int = 84, seed: int = 0) -> None:
    """Write a file of a layout, or for ALOHA of one episode.

    Args:
        path (`Path`): A new file.
        layout (`str`): One of `LAYOUTS`.
        n_frames (`int`): All frames; episodes have `EPISODE`, every third ends by a time-out.
        size (`int`, *optional*, defaults to 84): Height and width of the pictures.
        seed (`int`, *optional*, defaults to 0): Of the motions.

    Raises:
        FileExistsError: There is such a file.
    """
    import h5py

    with h5py.File(path, "x") as file:
        if layout == "lapo":
            _lapo(file, n_frames, size, seed)
        elif layout == "robomimic":
            _robomimic(file, n_frames, size, seed)
        else:
            _aloha(file, n_frames, size, seed)


def motion(n_frames: int, width: int, seed: int) -> npt.NDArray[np.float32]:
    """(n_frames, width) smooth joints in [-1, 1]."""
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 2 * np.pi, width), rng.uniform(0.03, 0.12, width)
    return np.sin(np.arange(n_frames)[:, None] * speed + phase).astype(np.float32)


def picture(joints: npt.NDArray[np.float32], camera: int, size: int) -> npt.NDArray[np.uint8]:
    """(size, size, 3) a table with two blocks whose places are joints."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    made = np.stack([90 + 60 * rows, 110 + 50 * columns, 100 + 40 * rows * columns], -1)
    side = max(4, size // 6)
    for block, color in ((0, (230, 60, 40)), (2, (40, 90, 220))):
        place = (joints[[block + camera % 2, block + 1]] + 1) / 2 * (size - side)
        top, left = int(place[0]), int(place[1])
        made[top : top + side, left : left + side] = color
    return made.astype(np.uint8)


def _film(joints: npt.NDArray[np.float32], camera: int, size: int) -> npt.NDArray[np.uint8]:
    return np.stack([picture(row, camera, size) for row in joints])


def _lapo(file: Any, n_frames: int, size: int, seed: int) -> None:
    joints = motion(n_frames + 1, _WIDTH["lapo"], seed)
    ends = (np.arange(n_frames) + 1) % EPISODE == 0
    ends[-1] = True
    timeout = ends & (np.cumsum(ends) % 3 == 0)
    file["observations/joint"] = joints[:-1]
    file["actions"] = joints[1:]
    file["rewards"] = (ends & ~timeout).astype(np.float32)
    file["terminals"] = (ends & ~timeout).astype(np.float32)
    file["timeouts"] = timeout
    for number, name in enumerate(LAPO_CAMERAS):
        film = file.create_dataset(
            f"observations/{name}",
            (n_frames, size, size, 3),
            np.uint8,
            chunks=(min(32, n_frames), size, size, 3),
        )
        for low in range(0, n_frames, 256):  # as bounded as the conversion
            film[low : low + 256] = _film(joints[low : min(low + 256, n_frames)], number, size)


def _robomimic(file: Any, n_frames: int, size: int, seed: int) -> None:
    data = file.create_group("data")
    data.attrs["total"] = n_frames
    for demo, start in enumerate(range(0, n_frames, EPISODE)):
        length = min(EPISODE, n_frames - start)
        joints = motion(length + 1, 9, seed + demo)
        group = data.create_group(f"demo_{demo}")
        group.attrs["num_samples"] = length
        group["actions"] = joints[1:, : _WIDTH["robomimic"]].astype(np.float64)
        group["rewards"] = (np.arange(length) == length - 1).astype(np.float64)
        group["dones"] = (np.arange(length) == length - 1).astype(np.int64)
        obs = group.create_group("obs")
        obs["robot0_eef_pos"], obs["robot0_eef_quat"] = joints[:-1, :3], joints[:-1, 3:7]
        obs["robot0_gripper_qpos"], obs["object"] = joints[:-1, 7:9], np.tile(joints[:-1, :5], (1, 2))
        for number, name in enumerate(("agentview_image", "robot0_eye_in_hand_image")):
            obs[name] = _film(joints[:-1], number, size)


def _aloha(file: Any, n_frames: int, size: int, seed: int) -> None:
    import cv2

    joints = motion(n_frames + 1, _WIDTH["aloha"], seed)
    file.attrs["sim"], file.attrs["compress"] = False, True
    file["observations/qpos"], file["action"] = joints[:-1], joints[1:]
    file["observations/qvel"] = np.diff(joints, axis=0)
    for number, name in enumerate(("cam_high", "cam_left_wrist", "cam_right_wrist")):
        coded = [
            cv2.imencode(".jpg", picture(row, number, size)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
            for row in joints[:-1]
        ]
        longest = max(len(row) for row in coded)
        file[f"observations/images/{name}"] = np.stack(
            [np.pad(row.ravel(), (0, longest - len(row))) for row in coded]
        )
