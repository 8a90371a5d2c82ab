# SPDX-License-Identifier: Apache-2.0
"""Decodes the frames of a dataset's cameras as its video backend does, at the pool's size."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.datasets import dataset_reader

_RUN = 16
"""Frames that are decoded at a time: few enough that whoever needs one does not wait for long."""


class VideoSource:
    """The pictures of the video cameras of one dataset, by episode and frame.

    Args:
        meta (`LeRobotDatasetMetadata`): Its metadata.
        root (`Path`): Its folder.
        tolerance_s (`float`): As LeRobot's reader has it.
        backend (`str`): As LeRobot's reader has it.
        timestamps (`torch.Tensor`): (N,) float32 of all rows.
        first_row (`np.ndarray`): (E,) the row each episode starts at; -1 for those that are not used.
        lengths (`np.ndarray`): (E,) frames of each episode; 0 for those that are not used.
        size (`tuple[int, int]`, *optional*): Height and width; the backend's by default.
    """

    run = _RUN

    def __init__(
        self,
        meta: Any,
        root: Path,
        tolerance_s: float,
        backend: str,
        timestamps: torch.Tensor,
        first_row: Any,
        lengths: Any,
        size: tuple[int, int] | None,
    ) -> None:
        self.meta, self.root, self.tolerance_s, self.backend = meta, root, tolerance_s, backend
        self.timestamps, self.first_row, self.size = timestamps, first_row, size
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.cameras = tuple(meta.video_keys)
        self._depth = frozenset(meta.depth_keys)
        self._renew_locks()

    def decode(self, episode: int, camera: int, steps: Sequence[int]) -> torch.Tensor:
        """Frames of an episode.

        Args:
            episode (`int`): Which.
            camera (`int`): Index into `cameras`.
            steps (`Sequence[int]`): (T,) frame numbers in the episode.

        Returns:
            (T, C, H, W) uint8, or (T, 1, H, W) uint16 codes of a depth camera.

        Raises:
            FrameTimestampError: As the backend has it.
        """
        key = self.cameras[camera]
        rows = int(self.first_row[episode]) + torch.as_tensor(list(steps))
        start = self.meta.episodes[episode][f"videos/{key}/from_timestamp"]
        times = [start + time for time in self.timestamps[rows].tolist()]
        path = self.root / self.meta.get_video_file_path(episode, key)
        with self._lock(str(path)):  # decoders are not made for two threads in one file
            frames = dataset_reader.decode_video_frames(
                path,
                times,
                self.tolerance_s,
                self.backend,
                return_uint8=True,
                is_depth=key in self._depth,
            )
        return self._resized(frames)

    def _resized(self, frames: torch.Tensor) -> torch.Tensor:
        if self.size is None or tuple(frames.shape[-2:]) == self.size:
            return frames
        return shrink(frames, self.size)

    def files(self) -> list[Path]:
        """The videos of the episodes in use, each once."""
        used = np.flatnonzero(self.lengths).tolist()
        names = {self.meta.get_video_file_path(episode, key) for episode in used for key in self.cameras}
        return sorted(self.root / name for name in names)

    def __getstate__(self) -> dict[str, Any]:
        """Without the timestamps: columns, which the other process maps; its reader puts them back."""
        left_out = ("_locks", "_guard", "_pid", "timestamps")
        return {key: value for key, value in self.__dict__.items() if key not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew_locks()

    def _renew_locks(self) -> None:
        self._pid, self._guard = os.getpid(), threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def _lock(self, path: str) -> threading.Lock:
        """The lock of a file in this process: one that was forked while it was held would never be free."""
        if self._pid != os.getpid():
            self._renew_locks()
        with self._guard:
            return self._locks.setdefault(path, threading.Lock())


def shrink(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pictures at another size.

    RGB as torchvision's `Resize(size, antialias=True)` has it. Of depth codes the nearest one: a mean of two
    sides of an edge is the depth of neither.

    Args:
        frames (`torch.Tensor`): (T, 3, H, W) uint8, or (T, 1, H, W) uint16.
        size (`tuple[int, int]`): Height and width.

    Returns:
        (T, C, *size) of the same type.
    """
    if frames.dtype == torch.uint8:
        # Strided so that torch takes its kernel for whole pixels; the result is the same.
        last = frames.contiguous(memory_format=torch.channels_last)
        small = torch.nn.functional.interpolate(last, size, mode="bilinear", antialias=True)
        return small.contiguous()
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, frames.shape[-2:], strict=True)
    )
    return torch.from_numpy(np.ascontiguousarray(frames.numpy()[:, :, rows][:, :, :, columns]))
