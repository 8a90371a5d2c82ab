# SPDX-License-Identifier: Apache-2.0
"""Tasks on the table: where cube and goal start, and the measure of success.

A task places the scene from a random generator and answers, for one instant, whether the goal is met;
`KochWorld` counts how long it has been met. No MuJoCo and no LeRobot in here.
"""

import math
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lerobot_env_koch.constants import CUBE_SIZE_M, LIFT_HEIGHT_M, REACH_TOLERANCE_M, TASKS
from lerobot_env_koch.sides import SIDE_TASKS, SIDES_OF

FloatArray = NDArray[np.float64]

HOME_TIP_M = np.array([0.0, 0.115, 0.095])
"""Tip of the gripper at reset, before joint noise."""

HOME_GRIPPER_RAD = 0.5
HOME_NOISE_RAD = 0.04
"""Half-width of the uniform joint noise at reset."""

BIN_INNER_M = 0.066
BIN_CENTRE_M = (0.145, 0.055)
BIN_SPREAD_M = 0.01
GOAL_HEIGHTS_M = (0.05, 0.13)

MAX_BELT_M_S: Final = 0.06
"""At this speed the scripted expert lifts 22 of 25 cubes (seeds 0..24), at 0.04 m/s 24."""

_OUT_OF_SIGHT = np.array([0.0, 0.13, -0.5])


def check_task(task: str) -> str:
    """The task name itself, if it is one.

    Args:
        task (`str`): Name to check.

    Returns:
        `str`: `task`.

    Raises:
        ValueError: If there is no such task; names the valid ones.
    """
    if task not in TASKS:
        raise ValueError(f"`task` is {task!r}; the Koch environment has {', '.join(TASKS)}.")
    return task


def check_belt(speed_m_s: float) -> float:
    """The speed itself, if the arm can work on such a belt.

    Raises:
        ValueError: If it cannot.
    """
    if not (math.isfinite(speed_m_s) and abs(speed_m_s) <= MAX_BELT_M_S):
        raise ValueError(
            f"`belt_m_s` is {speed_m_s}; give the speed of the table's top to the arm's right, at most "
            f"{MAX_BELT_M_S} m/s either way (0: a table at rest)."
        )
    return speed_m_s


def check_depth(depth: bool, obs: str) -> bool:
    """Whether there are depth maps, if there are cameras for them.

    Raises:
        ValueError: If there are none.
    """
    if depth and obs == "state":
        raise ValueError(
            "`depth` is true, but `obs` is 'state', which has no cameras; choose `obs` pixels or "
            "state_pixels, or leave `depth` out."
        )
    return depth


@dataclass
class Region:
    """Where the cube starts, in the frame of the robot's base.

    Args:
        x_min_m (`float`, *optional*, defaults to `-0.06`): Left edge; x points to the arm's right.
        x_max_m (`float`, *optional*, defaults to `0.06`): Right edge.
        y_min_m (`float`, *optional*, defaults to `0.12`): Near edge; y points forward.
        y_max_m (`float`, *optional*, defaults to `0.17`): Far edge.
        yaw_rad (`float`, *optional*, defaults to `0.25`): The cube is turned by up to this much either way.
    """

    x_min_m: float = -0.06
    x_max_m: float = 0.06
    y_min_m: float = 0.12
    y_max_m: float = 0.17
    yaw_rad: float = 0.25

    def check(self) -> None:
        """Check that the arm can work in the region.

        Raises:
            ValueError: If an edge pair is reversed, the region is out of reach, or the yaw exceeds an eighth
            of a turn.
        """
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise ValueError(
                    f"`region.{field.name}` is {getattr(self, field.name)}; give a finite number."
                )
        for axis in ("x", "y"):
            low, high = getattr(self, f"{axis}_min_m"), getattr(self, f"{axis}_max_m")
            if low > high:
                raise ValueError(
                    f"`region.{axis}_min_m` ({low}) exceeds `region.{axis}_max_m` ({high}); swap them."
                )
        far = math.hypot(max(abs(self.x_min_m), abs(self.x_max_m)), self.y_max_m)
        if self.y_min_m < 0.08 or far > 0.20:
            raise ValueError(
                f"`region` spans y {self.y_min_m}..{self.y_max_m} m, far corner {far:.3f} m from the base; "
                "the arm grasps from 0.08 m in front of its base to 0.20 m around it."
            )
        if not 0 <= self.yaw_rad <= math.pi / 4:
            raise ValueError(
                f"`region.yaw_rad` is {self.yaw_rad}; give 0 to {math.pi / 4:.3f}, an eighth of a turn."
            )

    def draw(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Cube position and yaw: x, y in m, yaw in rad."""
        x = rng.uniform(self.x_min_m, self.x_max_m)
        y = rng.uniform(self.y_min_m, self.y_max_m)
        return float(x), float(y), float(rng.uniform(-self.yaw_rad, self.yaw_rad))


AROUND: Final = Region(-0.02, 0.02, 0.15, 0.17)
AROUND_HEIGHTS_M: Final = (0.05, 0.08)
"""Where the goal of `around` is: before and below the gripper, so that no way leads through it."""


@dataclass(frozen=True)
class Scene:
    """One drawn start of a task.

    Args:
        cube_m (`FloatArray`): (3,) cube centre.
        cube_yaw_rad (`float`): Cube's turn about the vertical.
        goal_m (`FloatArray`): (3,) reach target, middle of the tour or between places beside it, lift height
            above the cube's start, or bin centre.
        marker_m (`FloatArray`): (3,) where the green marker is shown (below the table when a task has none).
        bin_m (`FloatArray`): (3,) where the bin stands (below the table when a task has none).
        side (`int`, *optional*, defaults to `0`): The place beside the goal that is meant, see
            `lerobot_env_koch.sides`; 0 where a task has none.
    """

    cube_m: FloatArray
    cube_yaw_rad: float
    goal_m: FloatArray
    marker_m: FloatArray
    bin_m: FloatArray
    side: int = 0


def draw_scene(task: str, region: Region, rng: np.random.Generator) -> Scene:
    """Draw where cube and goal start.

    Args:
        task (`str`): One of `TASKS`.
        region (`Region`): Where the cube may start.
        rng (`np.random.Generator`): Source of randomness.

    Returns:
        `Scene`: The start.

    Raises:
        ValueError: If there is no such task.
    """
    x, y, yaw = region.draw(rng)
    cube = np.array([x, y, CUBE_SIZE_M / 2])
    if check_task(task) == "lift":
        goal = np.array([x, y, cube[2] + LIFT_HEIGHT_M])
        return Scene(cube, yaw, goal, _OUT_OF_SIGHT, _OUT_OF_SIGHT)
    if task in ("reach", "tour", *SIDE_TASKS):
        where = AROUND if task == "around" else region
        goal_x, goal_y, _ = where.draw(rng)
        heights = AROUND_HEIGHTS_M if task == "around" else GOAL_HEIGHTS_M
        goal = np.array([goal_x, goal_y, rng.uniform(*heights)])
        side = int(rng.choice(SIDES_OF[task])) if task in SIDE_TASKS else 0
        return Scene(cube, yaw, goal, goal, _OUT_OF_SIGHT, side)
    centre = np.array([*(BIN_CENTRE_M + rng.uniform(-BIN_SPREAD_M, BIN_SPREAD_M, 2)), 0.0])
    return Scene(cube, yaw, centre, _OUT_OF_SIGHT, centre)


def goal_met(
    task: str, goal_m: FloatArray, cube_m: FloatArray, cube_speed_m_s: float, tip_m: FloatArray, touched: bool
) -> bool:
    """Whether the task's goal is met at this instant.

    Args:
        task (`str`): One of `TASKS`.
        goal_m (`FloatArray`): (3,) goal of the scene.
        cube_m (`FloatArray`): (3,) cube centre.
        cube_speed_m_s (`float`): Speed of the cube's centre.
        tip_m (`FloatArray`): (3,) tip of the gripper.
        touched (`bool`): Whether the arm touches the cube.

    Returns:
        `bool`: reach: tip within `REACH_TOLERANCE_M` of the goal; lift: cube at least `LIFT_HEIGHT_M` above
        its start; place: cube at rest inside the bin and not touched by the arm.
    """
    if task == "reach":
        return float(np.linalg.norm(tip_m - goal_m)) <= REACH_TOLERANCE_M
    if task == "lift":
        return float(cube_m[2]) >= float(goal_m[2])
    inside = np.abs(cube_m[:2] - goal_m[:2]).max() < BIN_INNER_M / 2 and cube_m[2] < 0.03
    return bool(inside) and not touched and cube_speed_m_s < 0.05
