# SPDX-License-Identifier: Apache-2.0
"""One control frame after the other at a fixed rate, each with the true age of the values it used.

The bench shows its clock in every position (`--hand clock`), and bench and client share the machine's clock:
what a value says, taken from the moment it was returned, is its age. Nothing the driver claims enters. The
clock ticks in milliseconds, so that an age is at most one millisecond too great.
"""

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from koch_bus_parts.machine import CpuWait
from koch_bus_parts.virtual import CLOCK_TICKS, Control

JOINTS: Final = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
N_VALUES: Final = 2 * len(JOINTS)
_ASK_EVERY: Final = 60  # frames; the bench remembers its last delays


@dataclass
class Frames:
    """What `run_frames` saw; `T` frames, six joints of the follower, then six of the leader.

    Attributes:
        work_ms (`NDArray`): (T,) Time in the three calls to the buses, in milliseconds.
        age_ms (`NDArray`): (T, 12) True age of each value when it was returned, in milliseconds.
        stale (`NDArray`): (T,) Values that the driver says it took from an earlier frame.
        wait_ms (`NDArray`): (T,) How long the client was kept waiting for a processor within the calls.
        late (`NDArray`): (T,) Delays of more than 10 ms by the simulator's host within the frame.
        error (`Exception | None`): What ended it early.
    """

    work_ms: NDArray[np.float64]
    age_ms: NDArray[np.float64]
    stale: NDArray[np.int64]
    wait_ms: NDArray[np.float64]
    late: NDArray[np.int64]
    error: Exception | None


def run_frames(robot: Any, leader: Any, n: int, fps: float, control: Control) -> Frames:
    """Observe, read the leader, act; `n` times, or until the driver gives up.

    Args:
        robot (`Robot`): Connected follower.
        leader (`Teleoperator`): Connected leader.
        n (`int`): Frames.
        fps (`float`): Frames a second.
        control (`Control`): Asked now and then, between frames, for delays of the bench's own host.
    """
    take_stale = _journal()
    take_stale()
    work, wait, age = np.zeros(n), np.zeros(n), np.zeros((n, N_VALUES))
    stale, spans = np.zeros(n, dtype=np.int64), np.zeros((n, 2))
    cpu, delays, error, done = CpuWait(), control.delays(), None, 0
    next_s = time.monotonic()
    for i in range(n):
        waited = cpu.milliseconds()
        start = time.monotonic()
        try:
            observation = robot.get_observation()
            observed = time.monotonic()
            action = leader.get_action()
            led = time.monotonic()
            robot.send_action(action)
        except Exception as caught:  # noqa: BLE001 - whatever ends a session is the result
            error = caught
        end = time.monotonic()
        if error is not None:
            break
        work[i] = 1000 * (end - start)
        wait[i] = cpu.milliseconds() - waited
        age[i, : len(JOINTS)] = ages_ms(observation, observed)
        age[i, len(JOINTS) :] = ages_ms(action, led)
        stale[i] = len(take_stale())
        spans[i] = start, end
        done = i + 1
        if done % _ASK_EVERY == 0:
            delays |= control.delays()
        # Like LeRobot's loop: a frame that took too long delays the ones behind it, none is made up for.
        next_s = max(next_s + 1 / fps, time.monotonic())
        time.sleep(max(0.0, next_s - time.monotonic()))
    cpu.close()
    late = count_within(delays | control.delays(), spans[:done])
    return Frames(work[:done], age[:done], stale[:done], wait[:done], late, error)


def count_within(delays: set[tuple[float, float]], spans: NDArray[np.float64]) -> NDArray[np.int64]:
    """(T,) How many of `delays` overlap each of `spans` (T, 2); seconds on the same clock."""
    if not delays:
        return np.zeros(len(spans), dtype=np.int64)
    begin, end = np.array(sorted(delays)).T  # (D,)
    touches = (begin < spans[:, 1:]) & (end > spans[:, :1])  # (T, D)
    return touches.sum(axis=1)


def ages_ms(values: dict[str, float], now_s: float) -> NDArray[np.float64]:
    """(6,) How old each joint's value was at `now_s`, in milliseconds.

    Args:
        values (`dict[str, float]`): `<joint>.pos` in LeRobot's units for a range of 0 to 4095.
        now_s (`float`): Time on the monotonic clock.
    """
    scaled = np.array([values[f"{joint}.pos"] for joint in JOINTS])
    share = np.append((scaled[:-1] + 100) / 200, scaled[-1] / 100)  # the gripper goes from 0 to 100
    ticks: NDArray[np.float64] = np.round(share * (CLOCK_TICKS - 1))
    return np.mod(1000 * now_s - ticks, CLOCK_TICKS)


def _journal() -> Any:
    """What tells the values our driver calls stale; the others' call none so."""
    from lerobot_robot_koch.stale_values import JOURNAL

    return JOURNAL.take
