# SPDX-License-Identifier: Apache-2.0
"""The one place where LeRobot's video reading is changed: `--dataset.video_backend=pyav` decodes by `video`.

LeRobot 0.6.1 has no registry of backends, so these names are rebound, only for versions this was tested with
and only where each is still the function that was tested:

- `video_utils.decode_video_frames_pyav`: what `pyav` means, whoever asks (datasets, annotation, depth maps);
- `decode_video_frames` of `video_utils` and `dataset_reader`: they know two names more, `pyav_stock`
  (LeRobot's own decoder) and `pyav:HxW` (ours, giving smaller pictures);
- `streaming_dataset.decode_video_frames_torchcodec`: ours decodes where torchcodec cannot be loaded;
- `DatasetReader.__init__` and `_query_videos`: a reader that is sent to a spawned DataLoader worker takes all
  this along, and an error says which episode it is about;
- `dataset_reader.ThreadPoolExecutor`, while ours decodes: see `item_costs`.

`LEROBOT_EXT_VIDEO=off` and `uninstall()` leave, or give back, LeRobot's own.
"""

import functools
import importlib
import inspect
import logging
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lerobot
import numpy as np
import torch
from lerobot.datasets import dataset_reader, video_utils
from lerobot.datasets.dataset_reader import DatasetReader
from lerobot.datasets.video_utils import FrameTimestampError

from lerobot_camera_pyav.item_costs import CameraThreads, with_quick_episodes
from lerobot_camera_pyav.video.decoders import PerProcess
from lerobot_camera_pyav.video.errors import VideoReadError
from lerobot_ext.data.buffers import Buffers
from lerobot_ext.lerobot_window import inside_tested_window

SWITCH = "LEROBOT_EXT_VIDEO"
LIMIT = "LEROBOT_VIDEO_DECODER_CACHE_SIZE"
DEFAULT_LIMIT = 64
KEEP = "LEROBOT_EXT_VIDEO_KEEP_MIB"
DEFAULT_KEEP_MIB = 256
STOCK = "pyav_stock"
_STREAMING = "lerobot.datasets.streaming_dataset"
_SIGNATURES = {
    "decode_video_frames": ["video_path", "timestamps", "tolerance_s", "backend", "return_uint8", "is_depth"],
    "decode_video_frames_pyav": [
        "video_path",
        "timestamps",
        "tolerance_s",
        "log_loaded_timestamps",
        "return_uint8",
        "is_depth",
    ],
    "decode_video_frames_torchcodec": [
        "video_path",
        "timestamps",
        "tolerance_s",
        "log_loaded_timestamps",
        "decoder_cache",
        "return_uint8",
    ],
}

logger = logging.getLogger(__name__)


class UnreadableFrameError(FrameTimestampError):  # type: ignore[misc]
    """A frame that a dataset asks for cannot be read; the message names file, episode and frame.

    Args:
        message (`str`): One line.
        path (`str`, *optional*): The file.
        seconds (`float`, *optional*): Time of the frame in the file.
    """

    def __init__(self, message: str, path: str = "", seconds: float | None = None) -> None:
        super().__init__(message)
        self.path, self.seconds = path, seconds


class PyAVBackend(str):
    """A backend's name that installs this module in every process it is sent to.

    A spawned DataLoader worker starts with LeRobot as it is; unpickling the dataset in it unpickles this.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Callable[[str], "PyAVBackend"], tuple[str]]:
        return _arrive, (str(self),)


def _arrive(name: str) -> PyAVBackend:
    install()
    return PyAVBackend(name)


def open_limit() -> int:
    """How many video files each process keeps open, by the variable that LeRobot has for its torchcodec.

    Raises:
        ValueError: `LEROBOT_VIDEO_DECODER_CACHE_SIZE` is not a number of at least 1, `none` or `-1`.
    """
    text = os.environ.get(LIMIT, "").strip().lower()
    if not text:
        return DEFAULT_LIMIT
    if text in ("none", "unbounded", "-1"):
        return sys.maxsize
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"environment variable {LIMIT} is {text!r}; set it to a number of files, 1 or more, or to none"
        )
    return int(text)


@functools.cache
def _videos() -> PerProcess:
    return PerProcess(open_limit())


def kept_bytes() -> int:
    """How much memory of pictures that are gone each process keeps for the next ones.

    Raises:
        ValueError: `LEROBOT_EXT_VIDEO_KEEP_MIB` is no whole number of MiB.
    """
    text = os.environ.get(KEEP, "").strip()
    if text and not text.isdecimal():
        raise ValueError(f"environment variable {KEEP} is {text!r}; set it to a number of MiB, 0 or more")
    return (int(text) if text else DEFAULT_KEEP_MIB) * 2**20


@functools.cache
def _buffers() -> Buffers:
    return Buffers(kept_bytes())


def decode(
    video_path: Path | str,
    timestamps: list[float],
    tolerance_s: float,
    *,
    return_uint8: bool = False,
    is_depth: bool = False,
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """The frames of a video nearest to some times, bit for bit as stock's `decode_video_frames_pyav`.

    Args:
        video_path (`Path | str`): A file, or what fsspec opens.
        timestamps (`list[float]`): (T,) seconds.
        tolerance_s (`float`): A frame must be nearer to its time than this.
        return_uint8 (`bool`, *optional*, defaults to `False`): RGB as uint8 instead of float32 in [0, 1].
        is_depth (`bool`, *optional*, defaults to `False`): The video is a depth map.
        size (`tuple[int, int]`, *optional*): Height and width to scale to; the video's own by default.

    Returns:
        (T, 3, H, W) RGB, or (T, 1, H, W) uint16 depth codes.

    Raises:
        FileNotFoundError: There is no such file.
        UnreadableFrameError: The file is damaged, or has no frame near one of the times.
    """
    try:
        decoder = _videos().get().get(video_path, depth=is_depth, size=size)
        shape = (len(timestamps), *decoder.frame_shape)
        frames = _buffers().empty(shape, decoder.dtype if return_uint8 or is_depth else np.float32)
        return torch.from_numpy(decoder.read(timestamps, tolerance_s, frames))
    except VideoReadError as error:
        raise UnreadableFrameError(str(error), str(video_path), error.seconds) from error.__cause__


def parse_size(backend: str) -> tuple[int, int]:
    """Height and width in a backend's name, `pyav:240x320`.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(r"pyav:(\d+)x(\d+)", backend)
    if not match or not all(map(int, match.groups())):
        raise ValueError(
            f"video backend {backend!r} names no size; write it as pyav:240x320 (height x width)"
        )
    return int(match[1]), int(match[2])


# --- what takes the place of LeRobot's functions ---


def _decode_video_frames(
    video_path: Path | str,
    timestamps: list[float],
    tolerance_s: float,
    backend: str | None = None,
    return_uint8: bool = False,
    is_depth: bool = False,
) -> torch.Tensor:
    if backend == STOCK:
        stock = _stock_function("decode_video_frames_pyav")
        frames: torch.Tensor = stock(
            video_path, timestamps, tolerance_s, return_uint8=return_uint8, is_depth=is_depth
        )
        return frames
    if backend is not None and backend.startswith("pyav:"):
        size = parse_size(backend)
        return decode(
            video_path, timestamps, tolerance_s, return_uint8=return_uint8, is_depth=is_depth, size=size
        )
    frames = _stock_function("decode_video_frames")(
        video_path, timestamps, tolerance_s, backend, return_uint8=return_uint8, is_depth=is_depth
    )
    return frames


def _stock_function(name: str) -> Callable[..., torch.Tensor]:
    """LeRobot's own function of `video_utils`; whoever imported ours has it still after `uninstall`."""
    stock: Callable[..., torch.Tensor] = _stock.get(("video_utils", name)) or getattr(video_utils, name)
    return stock


def _decode_video_frames_pyav(
    video_path: Path | str,
    timestamps: list[float],
    tolerance_s: float,
    log_loaded_timestamps: bool = False,
    return_uint8: bool = False,
    is_depth: bool = False,
) -> torch.Tensor:
    if log_loaded_timestamps:
        logger.info("frames asked for: %s of %s", timestamps, video_path)
    return decode(video_path, timestamps, tolerance_s, return_uint8=return_uint8, is_depth=is_depth)


def _decode_video_frames_torchcodec(
    video_path: Path | str,
    timestamps: list[float],
    tolerance_s: float,
    log_loaded_timestamps: bool = False,
    decoder_cache: Any = None,
    return_uint8: bool = False,
) -> torch.Tensor:
    if torchcodec_problem():
        return _decode_video_frames_pyav(
            video_path, timestamps, tolerance_s, log_loaded_timestamps, return_uint8
        )
    frames: torch.Tensor = _stock[_STREAMING, "decode_video_frames_torchcodec"](
        video_path, timestamps, tolerance_s, log_loaded_timestamps, decoder_cache, return_uint8
    )
    return frames


def _reader_init(self: DatasetReader, *words: Any, **named: Any) -> None:
    _stock["DatasetReader", "__init__"](self, *words, **named)
    if self._video_backend.startswith("pyav:"):
        parse_size(self._video_backend)  # a typing error is told now, not by a worker's first batch
    self._video_backend = PyAVBackend(self._video_backend)


def _reader_query_videos(
    self: DatasetReader, query_timestamps: dict[str, list[float]], ep_idx: int
) -> dict[str, torch.Tensor]:
    stock = _stock["DatasetReader", "_query_videos"]
    if self._video_backend != "pyav" and not self._video_backend.startswith("pyav:"):
        return dict(stock(self, query_timestamps, ep_idx))
    reader = object.__new__(type(self))
    reader.__dict__.update(self.__dict__, _meta=with_quick_episodes(self._meta))
    try:
        _this_thread.decodes_by_ours = True
        frames: dict[str, torch.Tensor] = stock(reader, query_timestamps, ep_idx)
    except UnreadableFrameError as error:
        where = f"episode {ep_idx}"
        for key in query_timestamps:
            path = self.root / self._meta.get_video_file_path(ep_idx, key)
            if error.path == str(path) and error.seconds is not None:
                start = self._meta.episodes[ep_idx][f"videos/{key}/from_timestamp"]
                where += f", {key}, frame {round((error.seconds - start) * self._meta.fps)} of the episode"
        raise UnreadableFrameError(f"{where}: {error}", error.path, error.seconds) from error.__cause__
    finally:
        _this_thread.decodes_by_ours = False
    return frames


_this_thread = threading.local()


def _threads_for_cameras(max_workers: int) -> Any:
    if getattr(_this_thread, "decodes_by_ours", False):
        return CameraThreads(max_workers)
    return _stock["dataset_reader", "ThreadPoolExecutor"](max_workers=max_workers)


def _streaming_init(self: Any, *words: Any, **named: Any) -> None:
    _stock[_STREAMING, "__init__"](self, *words, **named)
    self._lerobot_camera_pyav = PyAVBackend("pyav")  # takes this module to spawned workers


# --- putting it there, and back ---

_stock: dict[tuple[str, str], Any] = {}
_places: list[tuple[Any, str, Any, Any]] = []
"""What was rebound: owner, name, ours, theirs."""


def install() -> bool:
    """Put ours in place of LeRobot's; calling it again changes nothing.

    Returns:
        Whether it is in effect; if not, one log line says why, and LeRobot decodes as it always does.

    Raises:
        ValueError: `LEROBOT_EXT_VIDEO` is neither `on` nor `off`.
    """
    if _stock:
        return True
    if not _switched_on():
        return False
    known = {name: _parameters(getattr(video_utils, name, None)) for name in _SIGNATURES}
    same = getattr(dataset_reader, "decode_video_frames", None) is video_utils.decode_video_frames
    if not inside_tested_window() or known != _SIGNATURES or not same:
        logger.warning(
            "lerobot_ext: LeRobot %s does not read videos in the way we know, or another plugin took its "
            "place; that decoder stays. Install lerobot>=0.6.1,<0.7.",
            lerobot.__version__,
        )
        return False
    _replace(video_utils, "decode_video_frames_pyav", _decode_video_frames_pyav, "video_utils")
    _replace(video_utils, "decode_video_frames", _decode_video_frames, "video_utils")
    _replace(dataset_reader, "decode_video_frames", _decode_video_frames, "dataset_reader")
    _replace(dataset_reader, "ThreadPoolExecutor", _threads_for_cameras, "dataset_reader")
    _replace(DatasetReader, "__init__", _reader_init, "DatasetReader")
    _replace(DatasetReader, "_query_videos", _reader_query_videos, "DatasetReader")
    _backend_logger().addFilter(_one_line)
    return True


def install_for_streaming() -> None:
    """The same for LeRobot's streaming datasets, a module of their own that is not always imported."""
    if not install() or (_STREAMING, "__init__") in _stock:
        return
    module = importlib.import_module(_STREAMING)
    _replace(module, "decode_video_frames_torchcodec", _decode_video_frames_torchcodec, _STREAMING)
    _replace(module, "decode_video_frames", _decode_video_frames, _STREAMING)
    _replace(module.StreamingLeRobotDataset, "__init__", _streaming_init, _STREAMING)


def uninstall() -> None:
    """Give LeRobot its own functions back, but for those that somebody else has replaced since."""
    for owner, name, ours, stock in reversed(_places):
        if getattr(owner, name) is ours:
            setattr(owner, name, stock)
    _places.clear()
    _stock.clear()
    _backend_logger().removeFilter(_one_line)


def _replace(owner: Any, name: str, ours: Callable[..., Any], place: str) -> None:
    stock = getattr(owner, name)
    _stock[place, name] = stock
    _places.append((owner, name, ours, stock))
    setattr(owner, name, ours)


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters) if callable(function) else []


def _switched_on() -> bool:
    value = os.environ.get(SWITCH, "on").strip().lower() or "on"
    if value not in ("on", "off"):
        raise ValueError(f"environment variable {SWITCH} is {value!r}; set it to `on` or `off`, or unset it")
    return value == "on"


# --- torchcodec ---


@functools.cache
def torchcodec_problem() -> str:
    """Why torchcodec cannot decode here, in one line; empty where it can."""
    try:
        importlib.import_module("torchcodec")
    except (ImportError, OSError, RuntimeError) as error:
        text = " ".join(str(error).split())
        missing = re.search(r"(lib\w+\.so[.\d]*): cannot open shared object file", text)
        return f"{missing[1]} is not installed" if missing else text[:160]
    return ""


def _backend_logger() -> logging.Logger:
    return logging.getLogger("lerobot.utils.import_utils")


def _one_line(record: logging.LogRecord) -> bool:
    """A logging filter: LeRobot's forty lines about torchcodec become one, once a process."""
    if "'torchcodec' is" not in record.getMessage():
        return True
    if _told_about_torchcodec:
        return False
    _told_about_torchcodec.append(True)
    record.msg = "torchcodec cannot be loaded (%s): videos are decoded by lerobot_camera_pyav."
    record.args = (torchcodec_problem() or "by its own account",)
    return True


_told_about_torchcodec: list[bool] = []


# Whoever imports this module before LeRobot's dataset code sets off the package's hooks in the middle of it.
if _STREAMING in sys.modules:
    install_for_streaming()
else:
    install()
