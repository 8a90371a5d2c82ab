# SPDX-License-Identifier: Apache-2.0
"""Whether a recording keeps its rate, and if not, why: pure logic over the times of its frames."""

import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Cause = Literal["encoder", "cpu", "cameras", "bus", "rest"]

WRITER: Final = "writer"
"""Seconds spent in LeRobot's dataset writer; other parts are what the robot tells of itself."""
_WINDOW_S: Final = 3.0
_LEAST_FRAMES: Final = 30
_WARM_UP_S: Final = 0.5
_SLOW: Final = 0.93
"""Of the rate: stock's loop alone loses one or two in a hundred to sleeping."""
_LATE: Final = 1.5
_LATE_SHARE: Final = 0.1
_BUFFERED: Final = 0.5
_MUCH: Final = 0.4
_CPU_FULL: Final = 0.85
_QUEUE_FULL: Final = 0.8


@dataclass(frozen=True)
class _Frame:
    interval_s: float
    parts: Mapping[str, float]
    cpu_s: float


@dataclass(frozen=True)
class Behind:
    """A recording that does not keep its rate.

    Args:
        hz (`float`): The rate it has.
        fps (`float`): The rate it was asked for.
        parts_ms (`dict`): Mean milliseconds of a frame by part.
        cpu_share (`float`): How much of the machine's cores this process uses.
        cause (`str`): What keeps it: `encoder`, `cpu`, `cameras`, `bus`, or `rest`: teleoperator, policy,
            display.
    """

    hz: float
    fps: float
    parts_ms: dict[str, float]
    cpu_share: float
    cause: Cause


class Rhythm:
    """The frames of one recording.

    Only frames that follow each other within an episode count: what happens between episodes, while one is
    saved or thrown away, and in the half second in which encoders start, says nothing about the rate. Nor do
    frames that come twice as fast as asked: `lerobot-rollout` kept them for a while, and hands them on.

    Args:
        fps (`float`): Frames a second that were asked for.
        cores (`int`): Of the machine.
    """

    def __init__(self, fps: float, cores: int) -> None:
        self.fps = fps
        self._cores = cores
        self._window: deque[_Frame] = deque(maxlen=max(_LEAST_FRAMES, round(_WINDOW_S * fps)))
        self._last_index = -1
        self._last_s: float | None = None
        self._last_cpu_s = 0.0
        self._first_s = 0.0
        self.n_counted = 0
        self.n_late = 0
        self.counted_s = 0.0

    def interrupt(self) -> None:
        """What was is over: the next frame does not follow the last one."""
        self._last_s = None
        self._window.clear()

    def frame(self, index: int, now_s: float, cpu_s: float, parts: Mapping[str, float]) -> None:
        """A frame was recorded.

        Args:
            index (`int`): Its number within the episode.
            now_s (`float`): When.
            cpu_s (`float`): CPU seconds of the process up to now.
            parts (`Mapping`): Seconds since the last frame by part.
        """
        follows = self._last_s is not None and index == self._last_index + 1
        if not follows:
            self.interrupt()
            self._first_s = now_s
        elif now_s - self._first_s > _WARM_UP_S:
            self._count(_Frame(now_s - (self._last_s or now_s), dict(parts), cpu_s - self._last_cpu_s))
        self._last_index, self._last_s, self._last_cpu_s = index, now_s, cpu_s

    def behind(self, *, queue_fill: float = 0.0, dropped: bool = False) -> Behind | None:
        """What is the matter, once a window's worth of frames is slow; `None` while all is well.

        Args:
            queue_fill (`float`, *optional*): Share that is filled of the fullest encoder's queue.
            dropped (`bool`, *optional*): Whether frames were thrown away because one was full.
        """
        frames = list(self._window)
        if len(frames) < (self._window.maxlen or 0):
            return None
        intervals = [frame.interval_s for frame in frames]
        total = sum(intervals)
        hz = len(frames) / total
        late = sum(interval > _LATE / self.fps for interval in intervals)
        # One long pause lowers the mean as much as a slow loop does.
        steady = statistics.median(intervals) * self.fps > 1 / _SLOW or late >= _LATE_SHARE * len(frames)
        if hz >= _SLOW * self.fps or not steady:
            return None
        names = {name for frame in frames for name in frame.parts}
        parts = {name: sum(frame.parts.get(name, 0.0) for frame in frames) for name in sorted(names)}
        cpu_share = sum(frame.cpu_s for frame in frames) / total / self._cores
        shares = {name: spent / total for name, spent in parts.items()}
        cause = find_cause(shares, cpu_share, queue_fill, dropped=dropped)
        parts_ms = {name: spent / len(frames) * 1e3 for name, spent in parts.items()}
        return Behind(hz, self.fps, parts_ms, cpu_share, cause)

    @property
    def mean_hz(self) -> float | None:
        """Over all frames that counted; `None` before there are enough."""
        return self.n_counted / self.counted_s if self.n_counted >= _LEAST_FRAMES else None

    def _count(self, frame: _Frame) -> None:
        if frame.interval_s < _BUFFERED / self.fps:
            return
        self._window.append(frame)
        self.n_counted += 1
        self.counted_s += frame.interval_s
        self.n_late += frame.interval_s > _LATE / self.fps


def find_cause(shares: Mapping[str, float], cpu_share: float, queue_fill: float, *, dropped: bool) -> Cause:
    """What most likely keeps a slow recording.

    Args:
        shares (`Mapping`): Of a frame's time, by part.
        cpu_share (`float`): Of the cores, what this process uses.
        queue_fill (`float`): Of the fullest encoder's queue.
        dropped (`bool`): Whether frames were thrown away.
    """
    if dropped or queue_fill >= _QUEUE_FULL or shares.get(WRITER, 0.0) >= _MUCH:
        return "encoder"
    # Before the devices: on a machine without a free core everything takes long.
    if cpu_share >= _CPU_FULL:
        return "cpu"
    devices: dict[Cause, float] = {"cameras": shares.get("cameras", 0.0), "bus": shares.get("bus", 0.0)}
    slowest = max(devices, key=lambda name: devices[name])
    return slowest if devices[slowest] >= _MUCH else "rest"
