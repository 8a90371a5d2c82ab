# SPDX-License-Identifier: Apache-2.0
"""`--robot.cameras='{top: {type: pyav, source: …}}'`: what a camera reads from, and how patient it is."""

from dataclasses import dataclass, field

from lerobot.cameras.configs import CameraConfig, ColorMode, Cv2Rotation

DEVICE_FORMATS = ("v4l2", "dshow", "avfoundation")
"""FFmpeg's input formats that are cameras of this machine: they can be asked for a size and a rate."""


@CameraConfig.register_subclass("pyav")
@dataclass(kw_only=True)
class PyAVCameraConfig(CameraConfig):
    """A camera for anything that PyAV opens.

    Args:
        source (`str`): A video file, `rtsp://…`, `http://…`, `/dev/video0`, or what `format` names.
        width (`int`, *optional*): Of the pictures after rotation; the source's own by default. A device is
            asked for it, of any other source it must be true.
        height (`int`, *optional*): Likewise.
        fps (`int`, *optional*): Likewise; of a network stream, whose rate nobody knows, it is believed.
        format (`str`, *optional*): FFmpeg's input format where it cannot be guessed: `v4l2`, `dshow`,
            `avfoundation`, `lavfi`.
        options (`dict[str, str]`, *optional*): Further options for FFmpeg, such as `rtsp_transport: udp`.
        loop (`bool`, *optional*, defaults to `True`): Start a file anew at its end.
        color_mode (`ColorMode`, *optional*, defaults to `rgb`): Order of the channels.
        rotation (`Cv2Rotation`, *optional*, defaults to `0`): Clockwise, in degrees.
        warmup_s (`float`, *optional*, defaults to `1.0`): How long `connect` lets a camera adjust itself.
        open_timeout_s (`float`, *optional*, defaults to `5.0`): How long a source may take to answer.
        read_timeout_s (`float`, *optional*, defaults to `2.0`): A source silent for longer is dropped.
        reconnect_s (`float`, *optional*, defaults to `10.0`): How long a dropped stream is tried again.
    """

    source: str
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    loop: bool = True
    color_mode: ColorMode = ColorMode.RGB
    rotation: Cv2Rotation = Cv2Rotation.NO_ROTATION
    warmup_s: float = 1.0
    open_timeout_s: float = 5.0
    read_timeout_s: float = 2.0
    reconnect_s: float = 10.0

    def __post_init__(self) -> None:
        self.color_mode = ColorMode(self.color_mode)
        self.rotation = Cv2Rotation(self.rotation)
        if not self.source:
            raise ValueError("`source` is empty; name a file, a URL or a device")
        for name in ("width", "height", "fps", "open_timeout_s", "read_timeout_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` ({value}) must be positive")
        for name in ("warmup_s", "reconnect_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` ({getattr(self, name)}) must not be negative")
        if (self.width is None) != (self.height is None):
            raise ValueError(
                f"`width` ({self.width}) and `height` ({self.height}) belong together; give both or none"
            )
        if self.format is None and self.source.startswith("/dev/video"):
            self.format = "v4l2"

    @property
    def capture_size(self) -> tuple[int, int] | None:
        """Width and height before rotation; `None` where the source decides."""
        if self.width is None or self.height is None:
            return None
        turned = self.rotation in (Cv2Rotation.ROTATE_90, Cv2Rotation.ROTATE_270)
        return (self.height, self.width) if turned else (self.width, self.height)
