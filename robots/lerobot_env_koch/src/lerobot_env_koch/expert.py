# SPDX-License-Identifier: Apache-2.0
"""A scripted expert for each task, in closed loop on what a policy can see.

The expert keeps no phase and no clock: its action depends on joint angles, cube and goal alone (and, on a
tour, on the stop that comes next, which only the world knows). It moves down
as it comes nearer to standing above the cube, closes when the fingers are around it, lifts when the gripper's
own angle says that it holds a cube, and starts over by itself when the cube was lost. So its actions are a
function that behaviour cloning can learn, and its demonstrations contain recoveries once it is disturbed.
"""

import math
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lerobot_env_koch import kinematics
from lerobot_env_koch.constants import CUBE_SIZE_M, GRIPPER_HOLD_RAD, JOINT_NAMES
from lerobot_env_koch.physics import KochWorld
from lerobot_env_koch.sides import SIDE_TASKS
from lerobot_env_koch.tasks import BIN_INNER_M, check_task
from lerobot_env_koch.units import LOWER_RAD, UPPER_RAD, rad_to_units

FloatArray = NDArray[np.float64]

SKILLS: Final = ("expert", "noisy", "random")

GRIPPER_OPEN_RAD: Final = 0.95
GRIPPER_CLOSED_RAD: Final = 0.20
GRASP_HEIGHT_M: Final = 0.014
HOVER_M: Final = 0.05
CARRY_HEIGHT_M: Final = 0.078
RELEASE_HEIGHT_M: Final = 0.045
# The cube is taken this far off the middle, away from the fixed finger, so that the finger does not land on
# it.
SIDE_CLEARANCE_M: Final = 0.003
BELT_LEAD_S: Final = 0.15
"""How far ahead of a travelling cube the hand is sent: what servos and rate limit take."""
# How far targets may lead the joints; with these servos 0.06 rad is about 0.9 rad/s, a human pace.
LEAD_RAD: Final = np.array([0.06, 0.06, 0.06, 0.09, 0.09, 0.22])


def check_skill(skill: str) -> str:
    """The skill's name itself, if it is one.

    Raises:
        ValueError: If there is no such skill; names the valid ones.
    """
    if skill not in SKILLS:
        raise ValueError(f"`skill` is {skill!r}; the scripted expert has {', '.join(SKILLS)}.")
    return skill


class Expert(Protocol):
    """Acts on a `KochWorld` at 30 Hz."""

    def reset(self, world: KochWorld) -> None:
        """Prepare for an episode that has just been reset."""

    def act(self, world: KochWorld) -> FloatArray:
        """(6,) joint targets in LeRobot units for the next frame."""


class ScriptedExpert:
    """Reaches, lifts, places, tours or takes a side by inverse kinematics.

    Args:
        task (`str`): one of `TASKS`.

    Raises:
        ValueError: If there is no such task.
    """

    def __init__(self, task: str) -> None:
        self.task = check_task(task)

    def reset(self, world: KochWorld) -> None:
        """Nothing to prepare: the expert has no memory."""

    def act(self, world: KochWorld) -> FloatArray:
        """(6,) joint targets in LeRobot units."""
        q = world.joint_positions
        wanted = self.wanted_joints(world, q)
        step = wanted - q
        # The arm's joints arrive together; the gripper goes at its own pace.
        arm = step[:5]
        arm = arm * min(1.0, float((LEAD_RAD[:5] / np.maximum(np.abs(arm), 1e-9)).min()))
        gripper = np.clip(step[5:], -LEAD_RAD[5], LEAD_RAD[5])
        if holds_cube(world, q) and wanted[5] < q[5]:
            gripper = wanted[5:] - q[5:]  # squeeze
        offset = world.holding_offset()
        offset[5] = 0.0
        target = np.clip(q + np.concatenate([arm, gripper]) + offset, LOWER_RAD, UPPER_RAD)
        return rad_to_units(target)

    def wanted_joints(self, world: KochWorld, q: FloatArray) -> FloatArray:
        """(6,) joint angles the arm should come to from where it is, in rad.

        Args:
            world (`KochWorld`): The world to act in.
            q (`FloatArray`): (6,) present joint angles.
        """
        if self.task in ("reach", "tour", *SIDE_TASKS):
            return _joints(world.next_stop, 0.0, GRIPPER_CLOSED_RAD)
        cube = world.cube_position()
        if self.task == "place" and self._is_placed(world, cube):
            above = np.array([cube[0], cube[1], CARRY_HEIGHT_M])
            return _joints(above, float(q[4]), GRIPPER_OPEN_RAD)
        if holds_cube(world, q):
            return self._carry(world, q)
        return _grasp(world, q, cube)

    @staticmethod
    def _is_placed(world: KochWorld, cube: FloatArray) -> bool:
        off = float(np.abs(cube[:2] - world.goal[:2]).max())
        return off < BIN_INNER_M / 2 - 0.010 and cube[2] < RELEASE_HEIGHT_M + 0.008

    def _carry(self, world: KochWorld, q: FloatArray) -> FloatArray:
        tip = world.gripper_tip()
        if self.task == "lift":
            # Pulled in a little: near the base the hand can stay upright at height.
            reach = math.hypot(tip[0], tip[1])
            shrink = min(1.0, 0.15 / reach)
            up = np.array([tip[0] * shrink, tip[1] * shrink, CARRY_HEIGHT_M])
            return _joints(up, float(q[4]), GRIPPER_CLOSED_RAD)
        to_bin = world.goal[:2] - tip[:2]
        away = float(np.linalg.norm(to_bin))
        # Sideways only as high as the bin's rim allows, down again only above the bin.
        freedom = float(np.clip((tip[2] - 0.035) / 0.025, 0.0, 1.0))
        height = RELEASE_HEIGHT_M + min(CARRY_HEIGHT_M - RELEASE_HEIGHT_M, max(0.0, away - 0.012) * 2.0)
        target = np.array([*(tip[:2] + to_bin * freedom), height])
        return _joints(target, float(q[4]), GRIPPER_CLOSED_RAD)


def holds_cube(world: KochWorld, q: FloatArray) -> bool:
    """Whether the gripper stands at a cube's width with the cube between its pads."""
    at_width = GRIPPER_HOLD_RAD - 0.10 < q[5] < GRIPPER_HOLD_RAD + 0.05
    return bool(at_width) and float(np.linalg.norm(world.gripper_tip() - world.cube_position())) < 0.014


def _joints(tip_m: FloatArray, roll: float, gripper: float) -> FloatArray:
    """Joint angles for a tip position, kept to what the arm can reach."""
    x, y, z = (float(v) for v in tip_m)
    y = max(y, 0.02)
    reach = math.hypot(x, y)
    scale = float(np.clip(reach, 0.07, 0.20)) / reach
    arm, _ = kinematics.inverse(np.array([x * scale, y * scale, float(np.clip(z, 0.008, 0.16))]))
    return np.array([*arm, roll, gripper])


def _grasp(world: KochWorld, q: FloatArray, cube: FloatArray) -> FloatArray:
    """Come above the cube, go down around it, close."""
    tip = world.gripper_tip()
    pan = math.atan2(-cube[0], cube[1])
    # With the hand pointing down, fingers close along the direction pan - roll; a cube repeats every quarter
    # turn.
    roll = (pan - world.cube_yaw() + math.pi / 4) % (math.pi / 2) - math.pi / 4
    closing = pan - roll
    beside = cube[:2] - SIDE_CLEARANCE_M * np.array([math.cos(closing), math.sin(closing)])
    ahead = np.array([world.belt_m_s * BELT_LEAD_S, 0.0])
    off = float(np.linalg.norm(tip[:2] - beside))
    turn = abs(float(q[4]) - roll)
    # A gripper that has begun to close pushes the cube aside, so it is allowed a larger error than an open
    # one.
    tolerance = 0.006 if q[5] > GRIPPER_OPEN_RAD - 0.12 else 0.013
    lift = float(np.clip(max(off - 0.004, 0.03 * (turn - 0.1)) * 2.5, 0.0, HOVER_M))
    if q[5] < GRIPPER_OPEN_RAD - 0.2 and off > tolerance:
        lift = HOVER_M  # fingers are not open yet: stay above
    around = off < tolerance and tip[2] - cube[2] < CUBE_SIZE_M / 2 - 0.004
    gripper = GRIPPER_CLOSED_RAD if around else GRIPPER_OPEN_RAD
    height = max(GRASP_HEIGHT_M, float(cube[2])) + lift
    return _joints(np.array([*(beside + ahead), height]), roll, gripper)


class NoisyExpert:
    """The scripted expert with a shaky hand and a wrong idea of where the cube is.

    Args:
        expert (`ScriptedExpert`): Whom to disturb.
        rng (`np.random.Generator`): Source of the noise.
        noise (`float`): 1 is the usual clumsiness, 0 is none.
    """

    SHAKE_RAD: Final = np.array([0.05, 0.04, 0.04, 0.05, 0.06, 0.05])
    """Standard deviation of the slow (0.2 s) noise on the targets."""
    PERSISTENCE: Final = 0.85

    def __init__(self, expert: ScriptedExpert, rng: np.random.Generator, noise: float) -> None:
        self._expert = expert
        self._rng = rng
        self._noise = noise
        self._shake = np.zeros(len(JOINT_NAMES))
        self._bias = np.zeros(len(JOINT_NAMES))

    def reset(self, world: KochWorld) -> None:
        """Draw this episode's lasting error."""
        self._expert.reset(world)
        self._shake = np.zeros(len(JOINT_NAMES))
        self._bias = self._rng.normal(0.0, 0.3, len(JOINT_NAMES)) * self.SHAKE_RAD

    def act(self, world: KochWorld) -> FloatArray:
        """(6,) joint targets in LeRobot units."""
        fresh = self._rng.normal(0.0, 1.0, len(JOINT_NAMES)) * self.SHAKE_RAD
        self._shake = self.PERSISTENCE * self._shake + math.sqrt(1 - self.PERSISTENCE**2) * fresh
        error = (self._shake + self._bias) * self._noise
        return self._expert.act(world) + rad_to_units(error) - rad_to_units(np.zeros(len(JOINT_NAMES)))


class RandomMover:
    """Wanders smoothly through the space in front of the arm without looking at anything.

    Args:
        rng (`np.random.Generator`): Source of the wandering.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._goal: FloatArray = np.zeros(len(JOINT_NAMES))
        self._until_s = 0.0

    def reset(self, world: KochWorld) -> None:
        """Forget the present destination."""
        self._until_s = 0.0

    def act(self, world: KochWorld) -> FloatArray:
        """(6,) joint targets in LeRobot units."""
        if world.time_s >= self._until_s:
            spot = np.array([*self._rng.uniform([-0.08, 0.10, 0.015], [0.08, 0.18, 0.11])])
            self._goal = _joints(
                spot, float(self._rng.uniform(-0.8, 0.8)), float(self._rng.uniform(0.1, 1.0))
            )
            self._until_s = world.time_s + float(self._rng.uniform(0.3, 0.9))
        q = world.joint_positions
        step = np.clip(self._goal - q, -LEAD_RAD, LEAD_RAD)
        return rad_to_units(np.clip(q + step + world.holding_offset(), LOWER_RAD, UPPER_RAD))


def make_expert(
    task: str, skill: str = "expert", rng: np.random.Generator | None = None, noise: float = 1.0
) -> Expert:
    """A scripted demonstrator.

    Args:
        task (`str`): one of `TASKS`.
        skill (`str`, *optional*, defaults to `"expert"`): `expert`, `noisy` (succeeds at times) or `random`.
        rng (`np.random.Generator`, *optional*): Noise of the skills `noisy` and `random`; seeded with 0 if
            not given.
        noise (`float`, *optional*, defaults to `1.0`): How clumsy `noisy` is: 0 is the expert itself.

    Returns:
        `Expert`: With `reset(world)` and `act(world)`, to be called at 30 Hz.

    Raises:
        ValueError: If there is no such task or skill, or `noise` is negative.
    """
    check_skill(skill)
    if not noise >= 0:
        raise ValueError(f"`noise` is {noise}; give 0 (as good as the expert) or more.")
    generator = rng if rng is not None else np.random.default_rng(0)
    expert = ScriptedExpert(task)
    if skill == "random":
        return RandomMover(generator)
    if skill == "noisy":
        return NoisyExpert(expert, generator, noise)
    return expert
