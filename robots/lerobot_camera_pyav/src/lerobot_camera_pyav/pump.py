# SPDX-License-Identifier: Apache-2.0
"""Keeps the newest frame of a video source at hand, in a thread; knows nothing of LeRobot.

Files, and FFmpeg's test pictures, are played at their own pace and a file is started anew at its end. A live
source is read as fast as it sends, so that no old frame waits anywhere; when it falls silent it is opened
again. Frames are not converted here: only a frame that somebody looks at is worth it.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0
_LATEST_S = 1.0
"""A file that is late by more is played on from now instead of being hurried through."""
_LONGEST_STEP_S = 60.0
"""From frame to frame; more is a damaged time, or the file's start after its end."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """What to open, and how.

    Args:
        url (`str`): Path, address or device.
        format (`str | None`): FFmpeg's input format where it is not to be guessed.
        options (`dict[str, str]`): For FFmpeg.
        open_timeout_s (`float`): How long it may take to answer.
        read_timeout_s (`float`): How long it may be silent.
        loop (`bool`): Whether a file starts anew.
        reconnect_s (`float`): How long a live source that dropped is tried again.
    """

    url: str
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    open_timeout_s: float = 5.0
    read_timeout_s: float = 2.0
    loop: bool = True
    reconnect_s: float = 10.0

    def open(self) -> tuple[av.container.InputContainer, av.VideoStream]:
        """Open it.

        Raises:
            ConnectionError: It does not answer, or shows no pictures; the message says which.
        """
        container = None
        try:
            container = av.open(
                self.url,
                format=self.format,
                options=self._live_options() | self.options,
                timeout=(self.open_timeout_s, self.read_timeout_s),
            )
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ValueError("it does not say how its pictures are coded")
        except (av.FFmpegError, OSError, ValueError, IndexError) as error:
            if container is not None:
                container.close()
            raise ConnectionError(_reason(error)) from error
        # One frame at a time comes out of each packet: threads would hold frames back.
        stream.thread_type = "SLICE"
        return container, stream

    def is_paced(self, container: av.container.InputContainer) -> bool:
        """Whether it gives frames as fast as they are read, not when they happen."""
        return self.format == "lavfi" or Path(self.url).is_file() or container.duration is not None

    def _live_options(self) -> dict[str, str]:
        scheme = self.url.partition("://")[0].lower() if "://" in self.url else ""
        if scheme in ("rtsp", "rtsps"):
            return {"fflags": "nobuffer", "flags": "low_delay", "rtsp_transport": "tcp"}
        return {"fflags": "nobuffer", "flags": "low_delay"} if scheme else {}


class FramePump:
    """The newest frame of a source, kept up to date by a thread until `stop`.

    Args:
        source (`Source`): What to read.
        opened (`tuple`): What `source.open()` gave.
        name (`str`): For messages and the thread.
    """

    def __init__(
        self, source: Source, opened: tuple[av.container.InputContainer, av.VideoStream], name: str
    ) -> None:
        self._source, self._name = source, name
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._frame: av.VideoFrame | None = None
        self._number, self._seen = 0, 0
        self._time_s = 0.0
        self._trouble = ""
        self._over = ""
        self._thread = threading.Thread(target=self._run, args=opened, name=f"{name} reader", daemon=True)
        self._thread.start()

    @property
    def over(self) -> str:
        """Why no further frame will ever come; empty while some may."""
        return self._over

    @property
    def trouble(self) -> str:
        """Why no frame comes at the moment; empty while they do."""
        return self._over or self._trouble

    def newest(self) -> tuple[int, float, av.VideoFrame] | None:
        """Number, time (`time.perf_counter`) and picture of the newest frame; `None` before the first."""
        with self._changed:
            return (self._number, self._time_s, self._frame) if self._frame is not None else None

    def wait(self, timeout_s: float, *, newer: bool = False) -> tuple[int, float, av.VideoFrame] | None:
        """The newest frame that no earlier call has given; waits for it.

        Args:
            timeout_s (`float`): How long to wait.
            newer (`bool`, *optional*, defaults to `False`): Only one that comes after this call began.

        Returns:
            As `newest`; `None` when none came in time, or none will come.
        """
        with self._changed:
            after = self._number if newer else self._seen
            self._changed.wait_for(lambda: self._number > after or self._over, timeout_s)
            if self._number <= after or self._frame is None:
                return None
            self._seen = self._number
            return self._number, self._time_s, self._frame

    def stop(self) -> bool:
        """End the thread and close the source.

        Returns:
            Whether it ended; a driver that hangs in a read may keep it.
        """
        self._stop.set()
        self._thread.join(self._source.read_timeout_s + self._source.open_timeout_s + 1.0)
        return not self._thread.is_alive()

    def _run(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        """The thread: play, reopen what drops, until stopped or hopeless."""
        when_due = None
        try:
            while True:
                paced, before = self._source.is_paced(container), self._number
                when_due = when_due or self._when_due(stream)
                reason = self._play(container, stream, when_due if paced else None)
                container.close()
                if self._stop.is_set():
                    return
                if not paced:
                    again = self._reopen(reason or "it ended")
                    if again is None:
                        return
                elif reason or not self._source.loop or self._number == before:
                    return self._end(reason or "the file is over and `loop` is off")
                else:
                    again = self._source.open()
                container, stream = again
        except ConnectionError as error:
            self._end(str(error))
        except Exception as error:
            logger.exception("%s: the reading thread failed", self._name)
            self._end(f"{type(error).__name__}: {error}")
        finally:
            container.close()

    def _play(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        when_due: Callable[[av.VideoFrame], float] | None,
    ) -> str:
        """Publish frames until stopped (empty), the end (empty) or a failure (its reason)."""
        try:
            for frame in container.decode(stream):
                if when_due is not None and not self._wait_until(when_due(frame)):
                    return ""
                if self._stop.is_set():
                    return ""
                self._publish(frame)
        except av.FFmpegError as error:
            return _reason(error)
        return ""

    def _when_due(self, stream: av.VideoStream) -> Callable[[av.VideoFrame], float]:
        """A function that tells when each frame of a file is to be shown, over all its repetitions."""
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        last: float | None = None
        due = time.perf_counter()

        def when(frame: av.VideoFrame) -> float:
            nonlocal last, due
            shown = frame.time if frame.time is not None else (last or 0.0) + 1 / rate
            step = 0.0 if last is None else shown - last
            # At its end a file starts anew, one frame's time after its last.
            due += step if 0 <= step < _LONGEST_STEP_S else 1 / rate
            last = shown
            now = time.perf_counter()
            due = now if now - due > _LATEST_S else due
            return due

        return when

    def _wait_until(self, due: float) -> bool:
        """Sleep until `due`; False when stopped meanwhile."""
        left = due - time.perf_counter()
        return not (self._stop.wait(left) if left > 0 else self._stop.is_set())

    def _publish(self, frame: av.VideoFrame) -> None:
        with self._changed:
            self._frame, self._time_s = frame, time.perf_counter()
            self._number += 1
            self._trouble = ""
            self._changed.notify_all()

    def _reopen(self, reason: str) -> tuple[av.container.InputContainer, av.VideoStream] | None:
        """Try a dropped source until it answers; `None` when stopped, or when it takes too long."""
        began, wait_s, tries = time.monotonic(), _FIRST_WAIT_S, 0
        logger.warning("%s dropped (%s); it is opened again", self._name, reason)
        while time.monotonic() - began < self._source.reconnect_s:
            self._trouble = (
                f"it dropped {time.monotonic() - began:.1f} s ago ({reason}) and is opened again, try {tries}"
            )
            if self._stop.wait(wait_s):
                return None
            tries, wait_s = tries + 1, min(2 * wait_s, _LONGEST_WAIT_S)
            try:
                again = self._source.open()
            except ConnectionError as error:
                reason = str(error)
                continue
            logger.warning("%s is back after %.1f s", self._name, time.monotonic() - began)
            return again
        self._end(f"it dropped and did not come back in {self._source.reconnect_s:g} s ({reason})")
        return None

    def _end(self, why: str) -> None:
        with self._changed:
            self._over = why
            self._changed.notify_all()


def _reason(error: BaseException) -> str:
    """What FFmpeg or the system said, in one line."""
    if isinstance(error, IndexError):
        return "it has no pictures"
    text = " ".join((getattr(error, "strerror", "") or str(error)).split())
    # FFmpeg's own code for a read that was interrupted, which only the timeout does.
    return "it did not answer in time" if isinstance(error, av.ExitError) else text or type(error).__name__
