# SPDX-License-Identifier: Apache-2.0
"""The control loop of a robot whose policy runs elsewhere.

Each tick executes the next numbered action, and sends an observation when fewer actions than wanted are
left. The loop never waits for the network: while the server is away the queue goes on, and when it is empty
the robot holds its position. It records no dataset.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from lerobot.utils.constants import OBS_STATE
from lerobot.utils.robot_utils import precise_sleep

from lerobot_ext.serving.codec import DTYPES, Array
from lerobot_ext.serving.link import Link
from lerobot_ext.serving.messages import MAX_TASK, Feature, Observation, Welcome
from lerobot_ext.serving.timesteps import TimestepQueue

_IMAGES: Final = "observation.images."
_FOLLOWED: Final = (".pos", ".vel")


@dataclass(frozen=True)
class Pace:
    """How a session runs.

    Args:
        fps (`float`): Ticks a second.
        duration_s (`float`): End after this long; 0 runs until it is stopped.
        threshold (`float`): Send an observation when this share of a chunk, or less, is left.
        task (`str`): What the robot is to do, in words.
    """

    fps: float
    duration_s: float
    threshold: float
    task: str


@dataclass
class RunCounts:
    """What a session did.

    Args:
        ticks (`int`): Ticks since the first action.
        actions (`int`): Actions executed.
        held (`int`): Ticks since the first action that had none to execute.
        waited (`int`): Ticks before the first action.
        slow_ticks (`int`): Ticks that took longer than 1/fps.
        last_action (`int`): Number of the last action; -1 before the first.
    """

    ticks: int = 0
    actions: int = 0
    held: int = 0
    waited: int = 0
    slow_ticks: int = 0
    last_action: int = -1


def observed_features(observation_features: Mapping[str, Any]) -> dict[str, Feature]:
    """What a robot observes, by LeRobot's dataset names; the choice is that of `lerobot-rollout`.

    Args:
        observation_features (`Mapping`): A robot's: `float` for a number, (H, W, C) for a camera.

    Returns:
        `observation.state` of all positions and velocities, and `observation.images.NAME` of each camera.
    """
    numbers = tuple(
        name for name, kind in observation_features.items() if kind is float and name.endswith(_FOLLOWED)
    )
    features = {OBS_STATE: Feature("F32", (len(numbers),), numbers)} if numbers else {}
    for name, kind in observation_features.items():
        if isinstance(kind, tuple):
            height, width, channels = kind
            # LeRobot's depth cameras have one channel of 16 bits.
            features[_IMAGES + name] = Feature(
                "U16" if channels == 1 else "U8", (int(height), int(width), int(channels))
            )
    return features


def followed_actions(action_features: Mapping[str, Any]) -> tuple[str, ...]:
    """The actions a policy commands: positions and velocities, in the robot's order."""
    return tuple(name for name in action_features if name.endswith(_FOLLOWED))


def to_frame(observation: Mapping[str, Any], wanted: Mapping[str, Feature]) -> dict[str, Array]:
    """An observation of a robot as the server wants it.

    Args:
        observation (`Mapping`): What `get_observation` returned.
        wanted (`Mapping[str, Feature]`): From the welcome; pictures are scaled to its sizes.

    Raises:
        ValueError: A value is missing, not finite, or a picture has another number of channels or dtype.
    """
    frame: dict[str, Array] = {}
    for name, feature in wanted.items():
        parts = [name.removeprefix(_IMAGES)] if feature.is_picture else feature.names
        if missing := [part for part in parts if part not in observation]:
            raise ValueError(f"the robot's observation lacks {', '.join(missing)}, which it promises")
        if not feature.is_picture:
            frame[name] = np.array([observation[key] for key in feature.names], dtype=np.float32)
            if not np.isfinite(frame[name]).all():
                raise ValueError(f"the robot's `{name}` holds NaN or infinity: {frame[name].tolist()}")
            continue
        picture = np.asarray(observation[name.removeprefix(_IMAGES)])
        picture = picture[..., None] if picture.ndim == 2 else picture
        if picture.dtype != DTYPES[feature.dtype] or picture.shape[2:] != feature.shape[2:]:
            raise ValueError(
                f"camera `{name}` gives {picture.dtype} {list(picture.shape)}; its configuration promises "
                f"{feature.dtype} {list(feature.shape)}"
            )
        frame[name] = _scaled(picture, feature.shape)
    return frame


class RobotClient:
    """Drives a connected robot with the chunks a `Link` brings.

    Args:
        robot: A LeRobot robot, connected.
        link (`Link`): Welcomed.
        queue (`TimestepQueue`): The one `link` fills.
        pace (`Pace`): Rate, duration, threshold and task.
        trace (`Path`, *optional*): JSON lines, one an executed action: its number, time and values.
        tell (`Callable`, *optional*): Called each tick with the counts, for a status line.
    """

    def __init__(
        self,
        robot: Any,
        link: Link,
        queue: TimestepQueue,
        pace: Pace,
        trace: Path | None = None,
        tell: Callable[[RunCounts], None] = lambda counts: None,
    ) -> None:
        assert link.welcome is not None
        self.counts = RunCounts()
        self._robot = robot
        self._link = link
        self._queue = queue
        self._pace = pace
        self._trace_path = trace
        self._tell = tell
        self._welcome: Welcome = link.welcome
        self._frames: deque[dict[str, Array]] = deque(maxlen=self._welcome.frames)
        self._last: dict[str, float] = {}
        self._is_holding = False

    def run(self, stop: threading.Event) -> None:
        """Run until the duration is over or `stop` is set.

        Raises:
            LinkError: The server refused, or stayed away for too long.
        """
        if self._trace_path is None:
            self._loop(stop, None)
            return
        with self._trace_path.open("w", encoding="utf-8") as trace:
            self._loop(stop, trace)

    def _loop(self, stop: threading.Event, trace: IO[str] | None) -> None:
        period_s = 1.0 / self._pace.fps
        started = due = time.monotonic()
        while not stop.is_set():
            now = time.monotonic()
            if self._pace.duration_s and now - started >= self._pace.duration_s:
                return
            self._link.raise_if_failed()
            self._act(trace, now - started)
            self._look()
            self._tell(self.counts)
            # By the clock, not by the last tick: sleeps are a little too long, and chunks have a rate.
            due += period_s
            left_s = due - time.monotonic()
            if left_s < 0:
                self.counts.slow_ticks += 1
                # What was missed for long is not made up for: the arm would rush.
                due = max(due, time.monotonic() - period_s)
            precise_sleep(max(left_s, 0.0))

    def _act(self, trace: IO[str] | None, now_s: float) -> None:
        """Execute the next action, or hold."""
        popped = self._queue.pop()
        if popped is None:
            if self.counts.actions == 0:
                self.counts.waited += 1
                return
            self.counts.ticks += 1
            self.counts.held += 1
            self._hold()
            return
        step, values = popped
        action = dict(zip(self._welcome.action_names, values.tolist(), strict=True))
        self._robot.send_action(action)
        self._last, self._is_holding = action, False
        self.counts.ticks += 1
        self.counts.actions += 1
        self.counts.last_action = step
        if trace is not None:
            row = {
                "action": step,
                "t_s": round(now_s, 4),
                "connected": self._link.connected,
                "values": action,
            }
            trace.write(json.dumps(row) + "\n")

    def _hold(self) -> None:
        """Stand still: positions stay as they are commanded, velocities must be told."""
        if self._is_holding:
            return
        self._is_holding = True
        if any(name.endswith(".vel") for name in self._last):
            still = {name: 0.0 if name.endswith(".vel") else value for name, value in self._last.items()}
            self._robot.send_action(still)

    def _look(self) -> None:
        """Take an observation when one is needed, and send it when the queue runs low."""
        is_due = self._link.idle and self._queue.fill() <= self._pace.threshold
        # A policy that looks back needs every tick's; else only what is sent is asked of the robot.
        if not is_due and self._welcome.frames == 1:
            return
        taken_at = time.monotonic()
        self._frames.append(to_frame(self._robot.get_observation(), self._welcome.wanted))
        if is_due:
            self._link.offer(
                Observation(
                    self._queue.next_step, taken_at, self._pace.task[:MAX_TASK], _padded(self._frames)
                )
            )


def _padded(frames: "deque[dict[str, Array]]") -> Sequence[Mapping[str, Array]]:
    """As many frames as the server wants; the first one stands in for those before it."""
    assert frames.maxlen is not None
    return [frames[0]] * (frames.maxlen - len(frames)) + list(frames)


def _scaled(picture: Array, shape: tuple[int, ...]) -> Array:
    if picture.shape == shape:
        return picture
    # Imported here: most cameras give the size the policy wants.
    import cv2

    height, width, _ = shape
    shrinks = picture.shape[0] >= height and picture.shape[1] >= width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how)).reshape(shape)
