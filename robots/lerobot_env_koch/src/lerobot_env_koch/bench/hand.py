# SPDX-License-Identifier: Apache-2.0
"""The scripted hand: does what a person would do with the two arms while the stock CLIs run.

| mode | limp follower | calibration | leader while a client reads it |
|---|---|---|---|
| `idle` | falls | nothing | stays where it is |
| `auto` | rests at home | holds and sweeps either arm | plays the expert, returns home, new cube, again |
| `expert` | rests at home | nothing | as `auto`, also while nobody reads the leader |
| `replay:FILE` | rests at home | holds and sweeps either arm | plays the file in a loop |
| `clock` | shows the clock | nothing | shows the clock |

With `clock` there is no hand and no physics: every position of both arms is
`lerobot_env_koch.bench.arm.clock_ticks`.
"""

import json
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lerobot_env_koch.bench.arm import Arm
from lerobot_env_koch.bench.calibration import Phase
from lerobot_env_koch.constants import FPS, FULL_TURN_JOINTS, JOINT_NAMES
from lerobot_env_koch.units import LOWER_RAD, MID_RAD, UPPER_RAD, units_to_rad

if TYPE_CHECKING:
    from lerobot_env_koch.expert import Expert
    from lerobot_env_koch.physics import KochWorld

FloatArray = NDArray[np.float64]

MODES: Final = "auto, idle, expert, clock or replay:FILE"
HAND_SPEED_RAD_S: Final = 3.0
"""How fast the hand moves a limp joint; the same as the physics' own hand."""

RETURN_SPEED_RAD_S: Final = 1.5
"""How fast it brings the leader back home, with a cube in the follower's gripper."""

ATTEMPT_LIMIT_S: Final = 8.0
SUCCESS_PAUSE_S: Final = 0.3
DWELL_S: Final = 0.25
NEAR_RAD: Final = 0.15
NEAR_LIMIT_S: Final = 2.0
SPRING_S: Final = 0.05
"""Time constant with which the leader's gripper springs to its goal when its torque is on."""

_SWEPT = np.array([name not in FULL_TURN_JOINTS for name in JOINT_NAMES])
_GRIPPER: Final = JOINT_NAMES.index("gripper")
_LEG_S: Final = float((UPPER_RAD - LOWER_RAD)[_SWEPT].max()) / HAND_SPEED_RAD_S + DWELL_S
SWEEP_S: Final = 2 * _LEG_S
"""How long a calibration sweep takes until every joint has stood at both its stops."""


@dataclass(frozen=True)
class HandMode:
    """A parsed `--hand` value.

    Args:
        kind (`str`): `auto`, `idle`, `expert`, `clock` or `replay`.
        path (`Path | None`, *optional*): The file of `replay`.
    """

    kind: str
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "HandMode":
        """Read a mode as the command line writes it.

        Raises:
            ValueError: There is no such mode; names the possible ones.
        """
        kind, _, path = text.partition(":")
        if kind == "replay" and path:
            return cls(kind, Path(path))
        if kind in ("auto", "idle", "expert", "clock") and not path:
            return cls(kind)
        raise ValueError(f"hand {text!r} is not known; choose {MODES}.")

    @property
    def is_clock(self) -> bool:
        """Whether the arms show the clock instead of being moved."""
        return self.kind == "clock"

    @property
    def calibrates(self) -> bool:
        """Whether this hand helps with calibration."""
        return self.kind in ("auto", "replay")

    def __str__(self) -> str:
        return self.kind if self.path is None else f"{self.kind}:{self.path}"


class Playing(Enum):
    """What the hand does with the leader."""

    HOME = "home"
    APPROACH = "approach"
    PLAY = "play"
    PAUSE = "pause"
    RETURN = "return"


class Recording:
    """Joint targets read from a file, played in a loop.

    Args:
        path (`Path`): `.npy` of shape (T, 6) in LeRobot units at 30 Hz, or JSON with `fps` and `actions`.

    Raises:
        ValueError: The file cannot be read or does not hold rows of six finite numbers.
    """

    def __init__(self, path: Path) -> None:
        try:
            if path.suffix == ".npy":
                actions, fps = np.load(path), float(FPS)
            else:
                content = json.loads(path.read_text(encoding="utf-8"))
                actions, fps = np.array(content["actions"], dtype=float), float(content.get("fps", FPS))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"`--hand replay:{path}` cannot be read: {error!r}.") from error
        if (
            actions.ndim != 2
            or actions.shape[1] != len(JOINT_NAMES)
            or not np.isfinite(actions).all()
            or fps <= 0
        ):
            raise ValueError(
                f"`--hand replay:{path}` holds an array of shape {actions.shape}; it must be (frames, 6) "
                "finite LeRobot units."
            )
        self._q = units_to_rad(actions)
        self._fps = fps

    def at(self, t_s: float) -> FloatArray:
        """(6,) joint angles at time `t_s`, interpolated; the recording repeats."""
        at = (t_s * self._fps) % len(self._q)
        low = int(at)
        high = min(low + 1, len(self._q) - 1)
        pose: FloatArray = self._q[low] + (at - low) * (self._q[high] - self._q[low])
        return pose


def sweep_pose(t_s: float) -> FloatArray:
    """Where the hand drags an arm `t_s` seconds into a calibration sweep.

    All swept joints go to their lower stop, dwell, to the upper stop, dwell, and so on, each leg as long as
    the hand needs for the widest range from stop to stop: the arm may not have reached the middle when the
    sweep begins. After two legs, `SWEEP_S`, every joint has seen both its stops.

    Returns:
        `FloatArray`: (6,) joint angles in rad.
    """
    stops = LOWER_RAD if int(t_s / _LEG_S) % 2 == 0 else UPPER_RAD
    q: FloatArray = MID_RAD.copy()
    q[_SWEPT] = stops[_SWEPT]
    return q


class Hand:
    """Decides, tick by tick, how a person holds the follower and where the leader is.

    Args:
        mode (`HandMode`): What to do.
        task (`str`): Task the expert plays.
        home_rad (`FloatArray`): (6,) pose in which both arms rest.
        rng (`np.random.Generator`): The expert's randomness.

    Attributes:
        n_attempts (`int`): Expert attempts begun.
        n_lifts (`int`): Expert attempts that ended with the task's success.
        wants_new_scene (`bool`): Set when the cube should be put somewhere else; the owner clears it.

    Raises:
        ValueError: The file of `replay` is not usable.
    """

    def __init__(self, mode: HandMode, task: str, home_rad: FloatArray, rng: np.random.Generator) -> None:
        self.n_attempts = 0
        self.n_lifts = 0
        self.wants_new_scene = False
        self._home = home_rad.copy()
        self._leader = home_rad.copy()
        self._task = task
        self._rng = rng
        self._expert: Expert | None = None
        self._playing = Playing.HOME
        self._phase_s = 0.0
        self._target = home_rad.copy()
        self._next_act_s = 0.0
        self._recording: Recording | None = None
        self.set_mode(mode)

    @property
    def mode(self) -> HandMode:
        """What the hand does."""
        return self._mode

    @property
    def playing(self) -> Playing:
        """What the hand does with the leader right now."""
        return self._playing

    @property
    def home_rad(self) -> FloatArray:
        """(6,) pose in which both arms rest."""
        return self._home.copy()

    def set_mode(self, mode: HandMode) -> None:
        """Change what the hand does, from now on.

        Raises:
            ValueError: The file of `replay` is not usable.
        """
        self._recording = Recording(mode.path) if mode.path is not None else None
        self._mode = mode
        self._enter(Playing.HOME)

    def set_task(self, task: str) -> None:
        """Play another task from the next attempt on."""
        self._task = task
        self._expert = None
        self._enter(Playing.HOME)

    # --- the follower

    def hold_follower(self, arm: Arm, phase: Phase) -> FloatArray | None:
        """Where a person drags the limp follower.

        Args:
            arm (`Arm`): The follower.
            phase (`Phase`): Where its calibration stands.

        Returns:
            `FloatArray | None`: (6,) pose in rad, or `None` when nobody holds it.
        """
        if self._mode.kind == "idle":
            return None
        pose = self._calibration_pose(phase, arm.watch.elapsed_s)
        return self._home if pose is None else pose

    def _calibration_pose(self, phase: Phase, elapsed_s: float) -> FloatArray | None:
        if not self._mode.calibrates:
            return None
        if phase in (Phase.MIDDLE, Phase.SWEPT, Phase.DONE):
            middle: FloatArray = MID_RAD
            return middle
        return sweep_pose(elapsed_s) if phase is Phase.SWEEP else None

    # --- the leader

    def move_leader(
        self, arm: Arm, phase: Phase, world: "KochWorld", *, is_read: bool, dt_s: float
    ) -> FloatArray:
        """Pose of the leader after `dt_s` more seconds.

        Args:
            arm (`Arm`): The leader.
            phase (`Phase`): Where its calibration stands.
            world (`KochWorld`): The follower and the cube, for the expert.
            is_read (`bool`): Whether a client reads the configured leader.
            dt_s (`float`): Time step.

        Returns:
            `FloatArray`: (6,) joint angles in rad.
        """
        pose = self._calibration_pose(phase, arm.watch.elapsed_s)
        if pose is not None:
            self._enter(Playing.HOME)
            self._go_to(pose, HAND_SPEED_RAD_S, dt_s)
            return self._leader.copy()
        if self._mode.kind == "idle":
            self._spring(arm, dt_s)
            return self._leader.copy()
        self._phase_s += dt_s
        if is_read or self._mode.kind == "expert":
            self._play(world, dt_s)
        else:
            self._enter(Playing.HOME)
            self._go_to(self._home, RETURN_SPEED_RAD_S, dt_s)
            self._spring(arm, dt_s)
        return self._leader.copy()

    def _play(self, world: "KochWorld", dt_s: float) -> None:
        if self._recording is not None:
            if self._playing is not Playing.PLAY:
                self._enter(Playing.PLAY)
            self._go_to(self._recording.at(self._phase_s), 2 * HAND_SPEED_RAD_S, dt_s)
        elif self._playing is Playing.HOME:
            self._enter(Playing.APPROACH)
        elif self._playing in (Playing.APPROACH, Playing.RETURN):
            self._come_home(world, dt_s)
        elif self._playing is Playing.PLAY:
            self._play_expert(world, dt_s)
        elif self._phase_s > SUCCESS_PAUSE_S:
            self._enter(Playing.RETURN)

    def _come_home(self, world: "KochWorld", dt_s: float) -> None:
        """Leader to its home; once the follower has come along, a new scene and a new attempt."""
        self._go_to(self._home, RETURN_SPEED_RAD_S, dt_s)
        leader_there = bool(np.abs(self._leader - self._home).max() < 1e-6)
        follower_there = bool(np.abs(world.joint_positions - self._home).max() < NEAR_RAD)
        if leader_there and (follower_there or self._phase_s > NEAR_LIMIT_S):
            self.wants_new_scene = True
            self._enter(Playing.PLAY)
            self._expert = None

    def _play_expert(self, world: "KochWorld", dt_s: float) -> None:
        if self.wants_new_scene:
            return
        if self._expert is None:
            self._expert = self._make_expert()
            self._expert.reset(world)
            self.n_attempts += 1
            self._phase_s = 0.0
            self._next_act_s = 0.0
        if self._phase_s >= self._next_act_s:
            self._target = np.clip(units_to_rad(self._expert.act(world)), LOWER_RAD, UPPER_RAD)
            self._next_act_s += 1 / FPS
        left_s = max(dt_s, self._next_act_s - self._phase_s)
        self._leader += (self._target - self._leader) * min(1.0, dt_s / left_s)
        if world.success(world.task):
            self.n_lifts += 1
            self._enter(Playing.PAUSE)
        elif self._phase_s > ATTEMPT_LIMIT_S:
            self._enter(Playing.RETURN)

    def _make_expert(self) -> "Expert":
        from lerobot_env_koch.expert import make_expert

        return make_expert(self._task, rng=self._rng)

    def _go_to(self, q_rad: FloatArray, speed_rad_s: float, dt_s: float) -> None:
        step = speed_rad_s * dt_s
        self._leader = self._leader + np.clip(q_rad - self._leader, -step, step)

    def _spring(self, arm: Arm, dt_s: float) -> None:
        """A gripper with torque goes to its goal by itself when no finger squeezes it."""
        if arm.servos[_GRIPPER].goal_ticks is None:
            return
        goal = float(np.clip(arm.goals()[_GRIPPER], LOWER_RAD[_GRIPPER], UPPER_RAD[_GRIPPER]))
        self._leader[_GRIPPER] += (goal - self._leader[_GRIPPER]) * (1 - math.exp(-dt_s / SPRING_S))

    def _enter(self, playing: Playing) -> None:
        if playing is self._playing:
            return
        self._playing = playing
        self._phase_s = 0.0
