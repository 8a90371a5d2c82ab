# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a frame of a video file."""


class VideoReadError(ValueError):
    """A video file, or a frame of it, cannot be read: the message names the file, the frame and the cause.

    Args:
        message (`str`): One line.
        seconds (`float`, *optional*): Time of the frame in the file, where it is about one frame.
    """

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class NoFrameNearError(VideoReadError):
    """The file is readable, but has no frame within the tolerance of a time that was asked for."""
