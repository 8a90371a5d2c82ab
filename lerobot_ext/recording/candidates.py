# SPDX-License-Identifier: Apache-2.0
"""The encoder settings that `lerobot-ext codec` tries, and the stock flags that ask for them."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lerobot_ext.recording.load import Load

if TYPE_CHECKING:
    from lerobot.configs.video import RGBEncoderConfig

GOP: Final = 2
"""LeRobot's own: a random frame costs a training at most two decoded ones."""
_STOCK_QUEUE: Final = 30
_QUEUE_BYTES: Final = 512 * 2**20


@dataclass(frozen=True)
class Candidate:
    """Settings of LeRobot's streaming encoder.

    Args:
        vcodec (`str`): As in `--dataset.rgb_encoder.vcodec`.
        preset (`int | str | None`): The codec's speed; `None` leaves it to LeRobot.
        crf (`int`): Quality, lower is better.
        fast_decode (`int`, *optional*, defaults to `0`): Spares tools that decoding pays for.
        threads (`int | None`, *optional*): Of each camera's encoder; `None` leaves it to the codec.
        queue (`int`, *optional*, defaults to `30`): Frames that may wait for each camera's encoder.
    """

    vcodec: str
    preset: int | str | None
    crf: int
    fast_decode: int = 0
    threads: int | None = None
    queue: int = _STOCK_QUEUE

    @property
    def name(self) -> str:
        """For tables."""
        speed = f" {self.preset}" if self.preset is not None else ""
        return f"{self.vcodec}{speed} crf {self.crf}{' fast_decode' if self.fast_decode else ''}"

    @property
    def is_stock(self) -> bool:
        """Whether it is what LeRobot does by default once it streams."""
        return self == STOCK

    def flags(self) -> list[str]:
        """The options of `lerobot-record` (and `lerobot-rollout`) that ask for it, complete."""
        encoder = {
            "vcodec": self.vcodec,
            "preset": self.preset,
            "crf": self.crf,
            "g": GOP,
            "fast_decode": self.fast_decode or None,
        }
        flags = ["--dataset.streaming_encoding=true"]
        flags += [
            f"--dataset.rgb_encoder.{key}={value}" for key, value in encoder.items() if value is not None
        ]
        if self.threads is not None:
            flags.append(f"--dataset.encoder_threads={self.threads}")
        return [*flags, f"--dataset.encoder_queue_maxsize={self.queue}"]

    def encoder(self) -> "RGBEncoderConfig":
        """LeRobot's configuration of it.

        Raises:
            ValueError: PyAV has no such encoder, or the encoder does not take these settings.
        """
        from lerobot.configs import RGBEncoderConfig

        return RGBEncoderConfig(
            vcodec=self.vcodec, preset=self.preset, crf=self.crf, g=GOP, fast_decode=self.fast_decode
        )


STOCK: Final = Candidate("libsvtav1", 12, 30)
"""`--dataset.streaming_encoding=true` and nothing else."""

# Settings with much the same picture: about the PSNR of stock's default. Slow ones first.
_SOFTWARE: Final = (
    ("libsvtav1", 12, 30, 1),
    ("h264", "veryfast", 23, 0),
    ("h264", "veryfast", 23, 1),
    ("h264", "veryfast", 26, 1),
    ("h264", "superfast", 23, 1),
    ("h264", "ultrafast", 23, 0),
    ("h264", "ultrafast", 26, 0),
    ("hevc", "ultrafast", 26, 0),
)
_QUICK: Final = (("h264", "superfast", 23, 1), ("h264", "ultrafast", 23, 0))


def candidates(load: Load, hardware: list[str], *, quick: bool = False) -> list[Candidate]:
    """What to try for `load`, stock's default first.

    Args:
        load (`Load`): The cameras.
        hardware (`list[str]`): Hardware encoders that may work here; they keep their own default speed.
        quick (`bool`, *optional*, defaults to `False`): Few of them.
    """
    threads = max(1, cores() // load.cameras)
    queue = queue_for(load)
    tried = _QUICK if quick else _SOFTWARE
    software = [Candidate(vcodec, preset, crf, fast, threads, queue) for vcodec, preset, crf, fast in tried]
    return [STOCK, *software, *(Candidate(name, None, 24, queue=queue) for name in hardware)]


def queue_for(load: Load) -> int:
    """Frames a camera that may wait: two seconds' worth, unless that takes more than half a gibibyte."""
    fits = _QUEUE_BYTES // (load.cameras * load.frame_bytes)
    return max(4, min(2 * load.fps, fits))


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
