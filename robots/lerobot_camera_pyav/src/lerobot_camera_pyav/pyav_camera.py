# SPDX-License-Identifier: Apache-2.0
"""A LeRobot camera for anything PyAV opens: files, RTSP and HTTP streams, devices, FFmpeg's test pictures."""

import logging
import math
import platform
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter
from lerobot.cameras.camera import Camera
from lerobot.cameras.configs import ColorMode, Cv2Rotation
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected
from lerobot.utils.errors import DeviceNotConnectedError

from lerobot_camera_pyav.config_pyav_camera import DEVICE_FORMATS, PyAVCameraConfig
from lerobot_camera_pyav.pump import FramePump, Source

_QUARTER_TURNS = {
    Cv2Rotation.NO_ROTATION: 0,
    Cv2Rotation.ROTATE_90: -1,  # clockwise
    Cv2Rotation.ROTATE_180: 2,
    Cv2Rotation.ROTATE_270: 1,
}
_READ_TIMEOUT_MS = 10_000.0
"""What stock's cameras allow `read`."""

Frame = npt.NDArray[np.uint8]

logger = logging.getLogger(__name__)


class PyAVCamera(Camera):  # type: ignore[misc]
    """Frames of a `PyAVCameraConfig`'s source, the newest one always at hand.

    Args:
        config (`PyAVCameraConfig`): What to read.
    """

    config_class = PyAVCameraConfig

    def __init__(self, config: PyAVCameraConfig) -> None:
        super().__init__(config)
        self.config = config
        self._pump: FramePump | None = None
        self._capture_size: tuple[int, int] = (0, 0)
        self._reformatter = VideoReformatter()
        self._converted: tuple[int, Frame] | None = None

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.config.source})"

    @property
    def is_connected(self) -> bool:
        """Whether `connect` succeeded and `disconnect` was not called since."""
        return self._pump is not None

    @staticmethod
    def find_cameras() -> list[dict[str, Any]]:
        """The video devices of this machine that give pictures.

        Raises:
            NotImplementedError: Other than on Linux: PyAV cannot list devices there.
        """
        if platform.system() != "Linux":
            raise NotImplementedError(
                f"PyAV cannot list the cameras of {platform.system()}; `lerobot-find-cameras opencv` can"
            )
        found = []
        for device in sorted(Path("/dev").glob("video*")):
            try:
                container, stream = Source(str(device), "v4l2", open_timeout_s=2.0).open()
            except ConnectionError:
                continue  # a metadata node, or in use
            profile = {
                "format": stream.codec_context.name,
                "width": stream.codec_context.width,
                "height": stream.codec_context.height,
                "fps": float(stream.average_rate or 0),
            }
            container.close()
            found.append(
                {
                    "name": f"PyAV camera @ {device}",
                    "type": "PyAV",
                    "id": str(device),
                    "backend_api": "v4l2",
                    "default_stream_profile": profile,
                }
            )
        return found

    @check_if_already_connected
    def connect(self, warmup: bool = True) -> None:
        """Open the source and start reading.

        Args:
            warmup (`bool`, *optional*, defaults to `True`): Let a device adjust itself for `warmup_s`. The
                first frame is waited for in any case.

        Raises:
            DeviceAlreadyConnectedError: It is connected.
            ConnectionError: The source cannot be opened, or gives no frame.
            RuntimeError: It has another size or rate than the config says.
        """
        source = self._source()
        try:
            opened = source.open()
        except ConnectionError as error:
            raise ConnectionError(
                f"{self} cannot be opened: {error}. Check `source` and `format`, and that nobody else has "
                f"the device."
            ) from error
        pump = FramePump(source, opened, str(self))
        try:
            first = pump.wait(source.open_timeout_s + source.read_timeout_s)
            if first is None:
                raise ConnectionError(f"{self} opened but gives no picture: {pump.trouble or 'it is silent'}")
            self._check_size(first[2])
            self._check_rate(float(opened[1].average_rate or 0))
        except BaseException:
            pump.stop()
            self.width, self.height, self.fps = self.config.width, self.config.height, self.config.fps
            raise
        self._pump = pump
        if warmup and self.config.format in DEVICE_FORMATS:
            time.sleep(self.config.warmup_s)
        logger.info("%s connected: %sx%s", self, self.width, self.height)

    @check_if_not_connected
    def read(self, color_mode: ColorMode | None = None) -> Frame:
        """The next frame.

        Args:
            color_mode (`ColorMode`, *optional*): Another than the config's, for this frame.

        Returns:
            (H, W, 3) uint8.

        Raises:
            DeviceNotConnectedError: It is not connected.
            TimeoutError: None came in ten seconds.
            ConnectionError: The source is gone for good.
        """
        frame = self._next(_READ_TIMEOUT_MS, newer=True)
        if color_mode is not None and ColorMode(color_mode) != self.config.color_mode:
            return frame[..., ::-1]
        return frame

    @check_if_not_connected
    def async_read(self, timeout_ms: float = 200) -> Frame:
        """The newest frame that was not returned yet; waits for it.

        Args:
            timeout_ms (`float`, *optional*, defaults to `200`): How long.

        Returns:
            (H, W, 3) uint8.

        Raises:
            DeviceNotConnectedError: It is not connected.
            TimeoutError: None came in time; the message says what became of the source.
            ConnectionError: The source is gone for good.
        """
        return self._next(timeout_ms, newer=False)

    @check_if_not_connected
    def read_latest(self, max_age_ms: int = 500) -> Frame:
        """The newest frame, at once, whether or not it was returned before.

        Args:
            max_age_ms (`int`, *optional*, defaults to `500`): How old it may be.

        Returns:
            (H, W, 3) uint8.

        Raises:
            DeviceNotConnectedError: It is not connected.
            TimeoutError: It is older; the message says what became of the source.
            ConnectionError: The source is gone for good.
            RuntimeError: There was no frame yet.
        """
        pump = self._running()
        newest = pump.newest()
        if newest is None:
            raise RuntimeError(f"{self} has not captured any frames yet.")
        number, taken_s, frame = newest
        age_ms = (time.perf_counter() - taken_s) * 1e3
        if age_ms > max_age_ms:
            self._refuse_if_over(pump)
            raise TimeoutError(
                f"{self} latest frame is too old: {age_ms:.0f} ms (max allowed: {max_age_ms} ms)"
                f"{_because(pump)}."
            )
        return self._convert(number, frame)

    def disconnect(self) -> None:
        """Stop reading and close the source.

        Raises:
            DeviceNotConnectedError: It is not connected.
        """
        pump = self._pump
        if pump is None:
            raise DeviceNotConnectedError(f"{self} not connected.")
        self._pump = self._converted = None
        if not pump.stop():
            logger.warning("%s: its driver does not return from a read; the thread is left to it.", self)
        logger.info("%s disconnected.", self)

    def _source(self) -> Source:
        """The config as the pump wants it; a device is asked for size and rate."""
        config, options = self.config, dict(self.config.options)
        if config.format in DEVICE_FORMATS:
            if config.capture_size is not None:
                options.setdefault("video_size", "{}x{}".format(*config.capture_size))
            if config.fps is not None:
                options.setdefault("framerate", str(config.fps))
        return Source(
            config.source,
            config.format,
            options,
            config.open_timeout_s,
            config.read_timeout_s,
            config.loop,
            config.reconnect_s,
        )

    def _check_size(self, frame: av.VideoFrame) -> None:
        """Take the source's size, or hold it to the config's.

        Raises:
            RuntimeError: They differ.
        """
        wanted, got = self.config.capture_size, (frame.width, frame.height)
        if wanted is not None and wanted != got:
            raise RuntimeError(
                f"{self} gives pictures of {got[0]}x{got[1]}, and `width` and `height` ask for "
                f"{wanted[0]}x{wanted[1]} before rotation; leave both out to take what comes"
            )
        self._capture_size = got
        turned = _QUARTER_TURNS[self.config.rotation] % 2
        self.width, self.height = got[::-1] if turned else got

    def _check_rate(self, rate: float) -> None:
        """Take the source's rate, or hold it to the config's; a network stream's is not known.

        Raises:
            RuntimeError: They differ.
        """
        if self.config.fps is None:
            self.fps = round(rate) or None
        elif (
            rate and "://" not in self.config.source and not math.isclose(rate, self.config.fps, rel_tol=0.01)
        ):
            raise RuntimeError(
                f"{self} gives {rate:g} pictures a second, and `fps` asks for {self.config.fps}; leave it "
                f"out to take what comes"
            )

    def _running(self) -> FramePump:
        if self._pump is None:
            raise DeviceNotConnectedError(f"{self} not connected.")
        return self._pump

    def _refuse_if_over(self, pump: FramePump) -> None:
        if pump.over:
            raise ConnectionError(f"{self} gives no more pictures: {pump.over}")

    def _next(self, timeout_ms: float, *, newer: bool) -> Frame:
        pump = self._running()
        got = pump.wait(timeout_ms / 1e3, newer=newer)
        if got is None:
            self._refuse_if_over(pump)
            raise TimeoutError(
                f"Timed out waiting for frame from camera {self} after {timeout_ms:g} ms{_because(pump)}."
            )
        return self._convert(got[0], got[2])

    def _convert(self, number: int, frame: av.VideoFrame) -> Frame:
        """A frame as the config wants it; the same one is converted once.

        Raises:
            RuntimeError: It has another size than the first.
        """
        known = self._converted
        if known is not None and known[0] == number:
            return known[1]
        if (frame.width, frame.height) != self._capture_size:
            raise RuntimeError(
                f"{self} changed from {self._capture_size[0]}x{self._capture_size[1]} to "
                f"{frame.width}x{frame.height} while it was read"
            )
        pixels = "rgb24" if self.config.color_mode == ColorMode.RGB else "bgr24"
        image: Frame = self._reformatter.reformat(frame, format=pixels).to_ndarray().view(np.uint8)
        turns = _QUARTER_TURNS[self.config.rotation]
        image = np.ascontiguousarray(np.rot90(image, turns)) if turns else image
        self._converted = number, image
        return image


def _because(pump: FramePump) -> str:
    return f": {pump.trouble}" if pump.trouble else ""
