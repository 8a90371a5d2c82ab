# SPDX-License-Identifier: Apache-2.0
"""One frame of a file, one item of a dataset: what each contestant pays for it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_path_parts import files
from data_path_parts.contestants import (
    FLOOR,
    Cost,
    Inside,
    apart,
    clock,
    in_turns,
    medians,
    must_agree,
    side_by_side,
)


def decode(
    folder: Path, label: str, gop: int, names: list[str], seeds: int, *, quick: bool
) -> dict[str, Cost]:
    """A random frame a call, as uint8, and what libav alone takes to seek to it and decode it."""
    n = 20 if quick else 90
    path = apart(files.video, folder, label, gop, n)
    runs = []
    with side_by_side([*names, FLOOR]) as made:
        for contestant in made:
            contestant.call(_open_video, path)
        for seed in range(1 if quick else seeds):
            times = np.random.default_rng(seed).integers(0, n, 10 if quick else 60) / files.FPS
            seen = {who.name: who.call(_digests, times[:3].tolist()) for who in made if who.name != FLOOR}
            for number in range(3):
                must_agree(path.name, {name: digests[number] for name, digests in seen.items()})
            runs.append(in_turns(made, _read, times.tolist(), turn=5))
    return {name: medians([run[name] for run in runs]) for name in runs[0]}


def _open_video(inside: Inside, path: Path) -> None:
    from lerobot.datasets import video_utils

    if inside.name == FLOOR:
        inside.kept["read"] = _LibavAlone(path)
    else:
        inside.kept["read"] = lambda when: video_utils.decode_video_frames(
            path, [when], 1e-4, inside.backend, return_uint8=True
        )


def _read(inside: Inside, times: list[float]) -> list[Cost | None]:
    costs: list[Cost | None] = []
    for when in times:
        with clock() as cost:
            found = _found(inside, when)
        costs.append(None if found is None else cost)
    return costs


def _digests(inside: Inside, times: list[float]) -> list[str | None]:
    frames = [_found(inside, when) for when in times]
    return [None if frame is None else hashlib.sha1(frame.numpy().tobytes()).hexdigest() for frame in frames]


def _found(inside: Inside, when: float) -> Any:
    """A frame, or nothing where its reader does not find it: stock and torchcodec miss some of hevc."""
    return _unless_refused(inside.kept["read"], when)


def _unless_refused(read: Callable[[Any], Any], what: Any) -> Any:
    """What was read, or nothing where the reader refuses it."""
    from lerobot.datasets.video_utils import FrameTimestampError

    try:
        return read(what)
    except (FrameTimestampError, RuntimeError, IndexError):
        return None


class _LibavAlone:
    """Seeks to the right keyframe and decodes up to the frame, with one thread; converts nothing.

    What no reader that uses this codec and does not keep frames can go below.
    """

    def __init__(self, path: Path) -> None:
        import av

        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        self._order = [packet.pts for packet in packets]
        self._keys = sorted(packet.pts for packet in packets if packet.is_keyframe)
        self._container = av.open(str(path))
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1
        self._stream.thread_type = "NONE"
        self._shift = min(packet.pts for packet in packets) - min(packet.dts for packet in packets)
        self._dts = {packet.pts: packet.dts for packet in packets}

    def __call__(self, when: float) -> Any:
        """The decoded frame."""
        pts = min(self._order, key=lambda shown: abs(float(shown * self._stream.time_base) - when))
        key = max(shown for shown in self._keys if shown <= pts)
        self._container.seek(self._dts[key] + self._shift, stream=self._stream, backward=True)
        for packet in self._container.demux(self._stream):
            frames = packet.decode()
            if packet.pts == pts and not any(frame.pts == pts for frame in frames):
                frames = self._stream.codec_context.decode(None)
            for frame in frames:
                if frame.pts == pts:
                    return frame
        return None


def items(folder: Path, label: str, names: list[str], seeds: int, *, quick: bool) -> dict[str, Cost]:
    """`dataset[i]` at random: three cameras as float, and a window of actions."""
    root = apart(files.dataset, folder, label, 2, 20 if quick else 150)
    runs = []
    with side_by_side(names) as made:
        lengths = [contestant.call(open_dataset, root) for contestant in made]
        for seed in range(1 if quick else seeds):
            rows = np.random.default_rng(seed).integers(0, lengths[0], 6 if quick else 60).tolist()
            for row in rows[:2]:
                must_agree(f"item {row}", {who.name: who.call(_item_digest, row) for who in made})
            runs.append(in_turns(made, _items, rows, turn=3))
    return {name: medians([run[name] for run in runs]) for name in runs[0]}


def open_dataset(inside: Inside, root: Path, as_bytes: bool = False) -> int:
    """Open the dataset in a contestant's process; its length."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    inside.kept["dataset"] = LeRobotDataset(
        "user/bench",
        root=root,
        video_backend=inside.backend,
        return_uint8=as_bytes,
        delta_timestamps={"action": [step / files.FPS for step in range(files.N_ACTIONS)]},
    )
    return len(inside.kept["dataset"])


def _items(inside: Inside, rows: list[int]) -> list[Cost | None]:
    costs: list[Cost | None] = []
    for row in rows:
        with clock() as cost:
            found = _unless_refused(inside.kept["dataset"].__getitem__, row)
        costs.append(None if found is None else cost)
    return costs


def _item_digest(inside: Inside, row: int) -> str | None:
    found = _unless_refused(inside.kept["dataset"].__getitem__, row)
    return None if found is None else digest(found)


def digest(values: dict[str, Any]) -> str:
    """A word that differs where an item or batch differs."""
    found = hashlib.sha1()
    for key in sorted(values):
        value = values[key]
        found.update(key.encode())
        found.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
    return found.hexdigest()
