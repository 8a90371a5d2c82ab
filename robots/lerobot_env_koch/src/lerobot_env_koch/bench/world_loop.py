# SPDX-License-Identifier: Apache-2.0
"""The clock of the bench: one thread that steps the physics in real time and moves everything by it.

Each tick reads the follower's goals and torques, lets the hand move the leader and hold the follower, steps
the physics, and hands the new poses to the servos, the cameras and the tracker. If the host does not run it
for a while, simulated time catches up by at most `MAX_CATCH_UP_S`; the rest is lost and counted.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lerobot_env_koch.bench.arm import Arm
from lerobot_env_koch.bench.bus import VirtualBus
from lerobot_env_koch.bench.calibration import Phase
from lerobot_env_koch.bench.cameras import CameraPublisher, scene_state
from lerobot_env_koch.bench.hand import SWEEP_S, Hand
from lerobot_env_koch.bench.priority import prefer_this_thread
from lerobot_env_koch.bench.tracker import RATE_HZ, TrackerPublisher
from lerobot_env_koch.constants import ENVIRONMENT_STATE_NAMES, JOINT_NAMES
from lerobot_env_koch.physics import KochWorld

logger = logging.getLogger(__name__)

TICK_S: Final = 1 / 160
MAX_CATCH_UP_S: Final = 0.1
READ_RECENTLY_S: Final = 0.5
CUBE_LOST_Z_M: Final = -0.05
_ALL = np.ones(len(JOINT_NAMES), dtype=bool)
_NONE = np.zeros(len(JOINT_NAMES), dtype=bool)
_GRIPPER: Final = JOINT_NAMES.index("gripper")


class WorldLoop:
    """Owns the physics; other threads reach it through `call`.

    Args:
        world (`KochWorld`): Already reset.
        follower (`Arm`): The arm that the physics moves.
        leader (`Arm`): The arm that the hand moves.
        follower_bus (`VirtualBus`): To see whether a client holds the follower's port.
        leader_bus (`VirtualBus`): To see whether a client reads the leader.
        hand (`Hand`): The scripted hand.
        rng (`np.random.Generator`): Randomness of new scenes.
        cameras (`CameraPublisher | None`): Where to show the scene.
        tracker (`TrackerPublisher`): Where to publish the environment state.
    """

    def __init__(
        self,
        world: KochWorld,
        follower: Arm,
        leader: Arm,
        follower_bus: VirtualBus,
        leader_bus: VirtualBus,
        hand: Hand,
        rng: np.random.Generator,
        cameras: CameraPublisher | None,
        tracker: TrackerPublisher,
    ) -> None:
        self.world = world
        self.hand = hand
        self._follower, self._leader = follower, leader
        self._follower_bus, self._leader_bus = follower_bus, leader_bus
        self._rng = rng
        self._cameras = cameras
        self._tracker = tracker
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="physics", daemon=True)
        self.ran_s = 0.0
        for arm in (follower, leader):
            arm.watch.use_clock(lambda: self.ran_s)
        self._stopping = False
        self._was_success = False
        self._leader_q = hand.home_rad
        self._torque: NDArray[np.bool_] = np.ones(len(JOINT_NAMES), dtype=bool)
        self._publish_in_s = 0.0
        self.n_successes = 0
        self.n_scenes = 1
        self.lost_s = 0.0
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin to step."""
        self._thread.start()

    def stop(self) -> None:
        """Stop stepping."""
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def call[T](self, function: Callable[[], T], timeout_s: float = 5.0) -> T:
        """Run `function` between two ticks, in the physics thread, and return what it returns."""
        future: Future[T] = Future()
        self._calls.put((function, future))
        return future.result(timeout_s)

    def reset(self, task: str | None = None, seed: int | None = None) -> None:
        """Put cube and goal somewhere else; the arm stays where it is. Use through `call`."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        if task is not None and task != self.world.task:
            self.hand.set_task(task)
        self._new_scene(task or self.world.task)

    def report(self) -> dict[str, Any]:
        """State for the status report."""
        return {
            "task": self.world.task,
            "hand": str(self.hand.mode),
            "hand_is": self.hand.playing.value,
            "attempts": self.hand.n_attempts,
            "lifts": self.n_successes,
            "scenes": self.n_scenes,
            "success_now": self._was_success,
            "ran_s": round(self.ran_s, 2),
            "lost_s": round(self.lost_s, 3),
            "calibration": {arm.name: arm.watch.phase.value for arm in (self._follower, self._leader)},
            "environment_state": dict(
                zip(ENVIRONMENT_STATE_NAMES, self.world.environment_state().round(4).tolist(), strict=True)
            ),
            "follower_rad": self.world.joint_positions.round(4).tolist(),
            "leader_rad": self._leader_q.round(4).tolist(),
        }

    # --- the thread

    def _run(self) -> None:
        # The bus threads need the interpreter this thread holds: it must not be set aside while it has it.
        prefer_this_thread()
        try:
            next_s = time.monotonic()
            while not self._stopping:
                self._run_calls()
                self._tick()
                next_s += TICK_S
                now = time.monotonic()
                if now - next_s > MAX_CATCH_UP_S:
                    self.lost_s += now - next_s
                    next_s = now
                elif now < next_s:
                    time.sleep(next_s - now)
        except Exception as error:  # kept for the main thread, which ends the bench with it
            logger.exception("the physics stopped")
            self.error = error

    def _run_calls(self) -> None:
        while not self._calls.empty():
            function, future = self._calls.get()
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001 - belongs to the caller
                future.set_exception(error)

    def _tick(self) -> None:
        is_clock = self.hand.mode.is_clock
        for arm in (self._follower, self._leader):
            arm.shows_clock = is_clock
        self.ran_s += TICK_S
        if not is_clock:
            self._move()
        self._publish()

    def _move(self) -> None:
        follower_phase = self._follower.watch.update(
            limp=self._follower.limp, is_open=self._follower_bus.is_open
        )
        leader_phase = self._leader.watch.update(limp=self._leader.limp, is_open=self._leader_bus.is_open)
        for arm in (self._follower, self._leader):
            if arm.watch.phase is Phase.SWEEP and arm.watch.elapsed_s > SWEEP_S:
                arm.watch.finish_sweep()
        self._move_leader(leader_phase)
        self._drive_follower(follower_phase)
        self.world.step(TICK_S)
        self._follower.publish(
            self.world.joint_positions, self.world.joint_velocities, self.world.joint_currents
        )
        success = self.world.success(self.world.task)
        if success and not self._was_success:
            self.n_successes += 1
        self._was_success = success
        # A swept arm may push the cube off the table; a person would put it back.
        if self.hand.wants_new_scene or self.world.cube_position()[2] < CUBE_LOST_Z_M:
            self.hand.wants_new_scene = False
            self._new_scene(self.world.task)

    def _move_leader(self, phase: Phase) -> None:
        is_read = (
            self._leader_bus.is_open
            and self._leader.servos[_GRIPPER].torque_enabled
            and time.monotonic() - self._leader_bus.last_position_read_s < READ_RECENTLY_S
        )
        q = self.hand.move_leader(self._leader, phase, self.world, is_read=is_read, dt_s=TICK_S)
        self._leader.publish(q, (q - self._leader_q) / TICK_S, np.zeros(len(JOINT_NAMES)))
        self._leader_q = q

    def _drive_follower(self, phase: Phase) -> None:
        torque = self._follower.torque()
        if (torque != self._torque).any():
            self.world.set_torque(torque)
            self._torque = torque
        self.world.set_targets(self._follower.goals())
        held = self.hand.hold_follower(self._follower, phase) if self._follower.limp else None
        if held is None:
            self.world.hold_joint(_NONE, self.hand.home_rad)
        else:
            self.world.hold_joint(_ALL, held)

    def _new_scene(self, task: str) -> None:
        """Draw cube and goal anew and leave the arm as it is."""
        self.world.new_scene(task, self._rng)
        self.n_scenes += 1
        self._was_success = False

    def _publish(self) -> None:
        self._publish_in_s -= TICK_S
        if self._publish_in_s > 0:
            return
        self._publish_in_s += 1 / RATE_HZ
        if self._cameras is not None:
            self._cameras.update(scene_state(self.world))
        state: NDArray[np.float64] = self.world.environment_state()
        self._tracker.publish(ENVIRONMENT_STATE_NAMES, state)
