# SPDX-License-Identifier: Apache-2.0
"""The simulated bench: one Koch follower, a cube, a bin and a goal on a table, in MuJoCo.

`KochWorld` is the only place that touches MuJoCo's state. The gym environment, the scripted expert and the
virtual bench all drive it through the same methods, so a policy sees the same arm on each of them.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lerobot_env_koch import kinematics
from lerobot_env_koch.belt import Belt
from lerobot_env_koch.constants import (
    CAMERAS,
    FOLLOWER_SERVOS,
    FPS,
    HOLD_STEPS,
    JOINT_NAMES,
    TASK_DESCRIPTIONS,
)
from lerobot_env_koch.depth import DepthCamera
from lerobot_env_koch.rendering import FrameRenderer, make_renderer
from lerobot_env_koch.sides import Sides
from lerobot_env_koch.tasks import (
    HOME_GRIPPER_RAD,
    HOME_NOISE_RAD,
    HOME_TIP_M,
    Region,
    check_belt,
    check_task,
    draw_scene,
    goal_met,
)
from lerobot_env_koch.tour import GUIDE_REST_S, GUIDE_TOLERANCE_M, Tour
from lerobot_env_koch.units import LOWER_RAD, UPPER_RAD

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MODEL_PATH = Path(__file__).with_name("koch.xml")
HAND_SPEED_RAD_S = 3.0
"""How fast the hand drags a limp joint."""

_N_JOINTS = len(JOINT_NAMES)


@cache
def _model_xml() -> str:
    return MODEL_PATH.read_text(encoding="utf-8")


def _check_joints(array: NDArray[Any], what: str) -> None:
    if array.shape != (_N_JOINTS,):
        raise ValueError(
            f"`{what}` has shape {array.shape}; give one value for each of {', '.join(JOINT_NAMES)}."
        )


def _angles(values: ArrayLike, what: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    _check_joints(array, what)
    return array


def _mask(values: ArrayLike, what: str) -> BoolArray:
    array = np.asarray(values, dtype=bool)
    _check_joints(array, what)
    return array


def _check_picture(camera: str, height: int, width: int) -> None:
    if camera not in CAMERAS:
        raise ValueError(f"`camera` is {camera!r}; the bench has {', '.join(CAMERAS)}.")
    if height < 8 or width < 8:
        raise ValueError(f"`height` x `width` is {height} x {width}; give at least 8 x 8 pixels.")


class KochWorld:
    """A Koch follower at a table, stepped in simulated time.

    The same sequence of calls with the same random generator gives the same numbers, bit for bit, on one
    machine.

    Args:
        region (`Region`, *optional*): Where the cube starts; the default region when not given.
        renderer (`str`, *optional*, defaults to `"auto"`): `auto`, `mujoco` or `painter`, see
            `lerobot_env_koch.rendering`.
        belt_m_s (`float`, *optional*, defaults to `0.0`): Speed of the table's top to the arm's right, see
            `lerobot_env_koch.belt`.

    Raises:
        ValueError: If the region or the speed makes no sense.
    """

    def __init__(self, region: Region | None = None, renderer: str = "auto", belt_m_s: float = 0.0) -> None:
        self.region = region if region is not None else Region()
        self.region.check()
        self.belt_m_s = check_belt(belt_m_s)
        self._belt = Belt(_model_xml(), belt_m_s) if belt_m_s else None
        self.model = self._belt.model if self._belt else mujoco.MjModel.from_xml_string(_model_xml())
        self.data = mujoco.MjData(self.model)
        self.task = "lift"
        self._renderer_choice = renderer
        self._renderer: FrameRenderer | None = None
        self._depth_cameras: dict[tuple[str, int, int], DepthCamera] = {}
        self._gain = self.model.actuator_gainprm.copy()
        self._bias = self.model.actuator_biasprm.copy()
        self._gear_damping = self.model.dof_damping[:_N_JOINTS].copy()
        servos = FOLLOWER_SERVOS.values()
        self._back_emf = np.array([s.stall_torque_nm / s.no_load_speed_rad_s for s in servos])  # N m s/rad
        self._amperes_per_nm = np.array([s.stall_current_a / s.stall_torque_nm for s in servos])
        self._torque: BoolArray = np.ones(_N_JOINTS, dtype=bool)
        self._held: BoolArray = np.zeros(_N_JOINTS, dtype=bool)
        self._hand: FloatArray = np.zeros(_N_JOINTS)
        self._hand_at: FloatArray = np.zeros(_N_JOINTS)
        self._tip = self.model.site("tip").id
        self._cube_body = self.model.body("cube").id
        self._cube_geom = self.model.geom("cube").id
        self._cube_qpos = int(self.model.joint("cube").qposadr[0])
        self._cube_dof = int(self.model.joint("cube").dofadr[0])
        hand, finger = self.model.body("hand").id, self.model.body("finger").id
        self._arm_geoms = frozenset(np.flatnonzero(np.isin(self.model.geom_bodyid, [hand, finger])).tolist())
        self._bin_mocap = int(self.model.body("bin").mocapid[0])
        self._goal_mocap = int(self.model.body("goal").mocapid[0])
        self._steps_due = 0.0
        self._met_for_s = self._missed_for_s = 0.0
        self._missed_for_s = 0.0
        self._goal: FloatArray = np.zeros(3)
        self._tour: Tour | None = None
        self._guide: Tour | None = None
        self._sides: Sides | None = None
        self.reset("lift", np.random.default_rng(0))

    # --- starting over --------------------------------------------------------------------------------------

    def reset(self, task: str, rng: np.random.Generator) -> None:
        """Start an episode: arm near home with torque on, cube and goal drawn from `rng`.

        Args:
            task (`str`): one of `TASKS`.
            rng (`np.random.Generator`): Source of randomness; all of the episode's randomness is drawn here.

        Raises:
            ValueError: If there is no such task.
        """
        self.task = check_task(task)
        scene = draw_scene(task, self.region, rng)
        mujoco.mj_resetData(self.model, self.data)
        home, _ = kinematics.inverse(HOME_TIP_M)
        q = np.array([*home, 0.0, HOME_GRIPPER_RAD]) + rng.uniform(-HOME_NOISE_RAD, HOME_NOISE_RAD, _N_JOINTS)
        self.data.qpos[:_N_JOINTS] = q
        self.place_cube(scene.cube_m, scene.cube_yaw_rad)
        self.data.mocap_pos[self._bin_mocap] = scene.bin_m
        self.data.mocap_pos[self._goal_mocap] = scene.marker_m
        self._goal = scene.goal_m.copy()
        self._tour = Tour(self._goal) if task == "tour" else None
        self._guide = Tour(self._goal, GUIDE_TOLERANCE_M, GUIDE_REST_S) if task == "tour" else None
        self._sides = Sides(task, self._goal, scene.side) if scene.side else None
        self._steps_due = 0.0
        self._met_for_s = self._missed_for_s = 0.0
        self._held[:] = False
        self._hand_at = q.copy()
        self.set_torque(np.ones(_N_JOINTS, dtype=bool))
        self.set_targets(q)
        mujoco.mj_forward(self.model, self.data)

    def new_scene(self, task: str, rng: np.random.Generator) -> None:
        """Draw cube and goal anew and leave the arm as it is: pose, speed, torque and goal positions.

        Args:
            task (`str`): one of `TASKS`.
            rng (`np.random.Generator`): Source of randomness.

        Raises:
            ValueError: If there is no such task.
        """
        q, q_dot = self.joint_positions, self.joint_velocities
        torque, targets = self.torque_enabled, self.targets
        self.reset(task, rng)
        self.data.qpos[:_N_JOINTS], self.data.qvel[:_N_JOINTS] = q, q_dot
        self._hand_at = q
        self.set_torque(torque)
        self.set_targets(targets)
        mujoco.mj_forward(self.model, self.data)

    def place_cube(self, position_m: ArrayLike, yaw_rad: float = 0.0) -> None:
        """Put the cube down somewhere, at rest.

        Args:
            position_m (`ArrayLike`): (3,) centre in the base frame.
            yaw_rad (`float`, *optional*, defaults to `0.0`): Turn about the vertical.
        """
        start = self._cube_qpos
        self.data.qpos[start : start + 3] = position_m
        self.data.qpos[start + 3 : start + 7] = [math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2)]
        self.data.qvel[self._cube_dof : self._cube_dof + 6] = 0.0

    # --- driving --------------------------------------------------------------------------------------------

    def set_targets(self, q_rad: ArrayLike) -> None:
        """Give the servos new goal positions; they are clipped to the mechanical stops.

        Args:
            q_rad (`ArrayLike`): (6,) joint angles in rad.

        Raises:
            ValueError: If there are not six finite values.
        """
        q = _angles(q_rad, "q_rad")
        if not np.isfinite(q).all():
            raise ValueError(f"`q_rad` is {q.tolist()}; a servo takes finite angles only.")
        self.data.ctrl[:] = np.clip(q, LOWER_RAD, UPPER_RAD)

    def set_torque(self, enabled: ArrayLike) -> None:
        """Switch servos on or off; a limp joint offers only its gears' friction and damping.

        Args:
            enabled (`ArrayLike`): (6,) bool.

        Raises:
            ValueError: If there are not six values.
        """
        self._torque = _mask(enabled, "enabled").copy()
        self.model.actuator_gainprm[:] = np.where(self._torque[:, None], self._gain, 0.0)
        self.model.actuator_biasprm[:] = np.where(self._torque[:, None], self._bias, 0.0)
        back_emf = np.where(self._torque, self._back_emf, 0.0)
        self.model.dof_damping[:_N_JOINTS] = self._gear_damping + back_emf

    def hold_joint(self, mask: ArrayLike, positions: ArrayLike) -> None:
        """Take hold of joints with the "hand" and drag them to positions, at most `HAND_SPEED_RAD_S` fast.

        The hand is kinematic: it is exact and overcomes gravity, but lets go of a joint whose servo has
        torque, as a person would not win against one. It stops at the joint's mechanical stops.

        Args:
            mask (`ArrayLike`): (6,) bool, joints in the hand; all False lets go of everything.
            positions (`ArrayLike`): (6,) rad, where to drag them; ignored for the others.

        Raises:
            ValueError: If a shape is wrong or a held joint's position is not finite.
        """
        held = _mask(mask, "mask").copy()
        wanted = _angles(positions, "positions")
        if not np.isfinite(wanted[held]).all():
            raise ValueError(f"`positions` is {wanted.tolist()}; give a finite angle for each held joint.")
        self._held = held
        self._hand = np.clip(np.where(held, wanted, 0.0), LOWER_RAD, UPPER_RAD)

    def step(self, dt_s: float) -> None:
        """Advance simulated time.

        What does not fill a whole sub-step (2.08 ms) is kept for the next call, so any rhythm of calls adds
        up right.

        Args:
            dt_s (`float`): Seconds to advance, >= 0.

        Raises:
            ValueError: If `dt_s` is negative or not finite.
        """
        if not (math.isfinite(dt_s) and dt_s >= 0):
            raise ValueError(f"`dt_s` is {dt_s}; give the seconds to advance as a number >= 0.")
        h = self.model.opt.timestep
        self._steps_due += dt_s / h
        # A hair of tolerance, so that 1/30 s is 16 sub-steps and never 15.
        n = int(self._steps_due + 1e-6)
        self._steps_due -= n
        dragged = self._held & ~self._torque
        if self._belt is not None:
            self._belt.drive(self.data)
        if dragged.any():
            for _ in range(n):
                speed = self._drag(dragged, h)
                self.data.qpos[:_N_JOINTS][dragged] = self._hand_at[dragged]
                self.data.qvel[:_N_JOINTS][dragged] = speed[dragged]
        elif n:
            mujoco.mj_step(self.model, self.data, n)
        if not dragged.all():
            self._hand_at = np.where(dragged, self._hand_at, self.data.qpos[:_N_JOINTS])
        if n:
            # Poses and contacts of the state reached; mj_step leaves those of the step before.
            mujoco.mj_forward(self.model, self.data)
            if self._tour is not None:
                self._tour.follow(self.gripper_tip(), n * h)
            if self._guide is not None:
                self._guide.follow(self.gripper_tip(), n * h)
            self._met_for_s = self._met_for_s + n * h if self._goal_met() else 0.0
            missed = self._sides is not None and self._sides.is_missed(self.gripper_tip())
            self._missed_for_s = self._missed_for_s + n * h if missed else 0.0

    def _drag(self, joints: BoolArray, h: float) -> FloatArray:
        """One sub-step with joints in the hand; returns the (6,) speeds it moves them with."""
        travel = np.clip(self._hand - self._hand_at, -HAND_SPEED_RAD_S * h, HAND_SPEED_RAD_S * h)
        self.data.qvel[:_N_JOINTS][joints] = travel[joints] / h
        mujoco.mj_step(self.model, self.data)
        self._hand_at = np.where(joints, self._hand_at + travel, self.data.qpos[:_N_JOINTS])
        return np.asarray(travel / h, dtype=np.float64)

    # --- observing ------------------------------------------------------------------------------------------

    @property
    def joint_positions(self) -> FloatArray:
        """(6,) joint angles in rad."""
        return np.array(self.data.qpos[:_N_JOINTS])

    @property
    def joint_velocities(self) -> FloatArray:
        """(6,) joint speeds in rad/s."""
        return np.array(self.data.qvel[:_N_JOINTS])

    @property
    def joint_currents(self) -> FloatArray:
        """(6,) approximate motor currents in A, signed, from each servo's torque and its data sheet."""
        back_emf = np.where(self._torque, self._back_emf * self.joint_velocities, 0.0)
        return np.asarray((self.data.actuator_force[:_N_JOINTS] - back_emf) * self._amperes_per_nm)

    def holding_offset(self) -> FloatArray:
        """(6,) rad by which a target must lead its joint so that the soft servo carries the arm's weight."""
        return np.array(self.data.qfrc_bias[:_N_JOINTS] / self._gain[:_N_JOINTS, 0])

    @property
    def targets(self) -> FloatArray:
        """(6,) present goal positions in rad."""
        return np.array(self.data.ctrl[:_N_JOINTS])

    @property
    def torque_enabled(self) -> BoolArray:
        """(6,) which servos have torque."""
        return self._torque.copy()

    @property
    def time_s(self) -> float:
        """Simulated seconds since the last reset."""
        return float(self.data.time)

    @property
    def goal(self) -> FloatArray:
        """(3,) the task's goal in m, see `lerobot_env_koch.tasks.Scene`."""
        return self._goal.copy()

    def gripper_tip(self) -> FloatArray:
        """(3,) the point between the finger pads where a cube's centre goes, base frame, m."""
        return np.array(self.data.site_xpos[self._tip])

    def cube_position(self) -> FloatArray:
        """(3,) the cube's centre, base frame, m."""
        return np.array(self.data.xpos[self._cube_body])

    def cube_yaw(self) -> float:
        """The cube's turn about the vertical, -π/4 to π/4 rad: a cube repeats itself every quarter turn."""
        axes = self.data.xmat[self._cube_body].reshape(3, 3)
        # The face normal that lies flattest, so that a tumbled cube has a yaw too.
        flat = axes[:, int(np.abs(axes[2]).argmin())]
        yaw = math.atan2(flat[1], flat[0])
        return (yaw + math.pi / 4) % (math.pi / 2) - math.pi / 4

    def cube_speed(self) -> float:
        """Speed of the cube's centre in m/s."""
        return float(np.linalg.norm(self.data.qvel[self._cube_dof : self._cube_dof + 3]))

    def environment_state(self) -> FloatArray:
        """(7,) `ENVIRONMENT_STATE_NAMES`: cube x, y, z (m), cube yaw (rad), goal x, y, z (m)."""
        return np.array([*self.cube_position(), self.cube_yaw(), *self._goal])

    def cube_touched(self) -> bool:
        """Whether hand or finger touch the cube."""
        for first, second in self.data.contact.geom:
            if self._cube_geom in (first, second) and (first in self._arm_geoms or second in self._arm_geoms):
                return True
        return False

    def goal_distance(self) -> float:
        """What is still missing, in m: tip to goal, way to go, lift height, or cube to bin centre."""
        if self._tour is not None:
            return self._tour.missing_m(self.gripper_tip())
        if self._sides is not None:
            return self._sides.missing_m(self.gripper_tip())
        if self.task == "reach":
            return float(np.linalg.norm(self.gripper_tip() - self._goal))
        if self.task == "lift":
            return max(0.0, float(self._goal[2] - self.cube_position()[2]))
        return float(np.linalg.norm(self.cube_position()[:2] - self._goal[:2]))

    @property
    def next_stop(self) -> FloatArray:
        """(3,) where a demonstrator goes, in m: a tour's next stop, the place that is meant, or the goal."""
        if self._sides is not None:
            return self._sides.wanted.copy()
        return self.goal if self._guide is None else self._guide.next_stop.copy()

    @property
    def instruction(self) -> str:
        """What a policy is told to do in this episode."""
        return TASK_DESCRIPTIONS[self.task] if self._sides is None else self._sides.instruction

    def failure(self) -> bool:
        """Whether a place that ends the episode has been held for `HOLD_STEPS` frames."""
        return self._missed_for_s >= (HOLD_STEPS - 0.5) / FPS

    def _goal_met(self) -> bool:
        if self._tour is not None:
            return self._tour.is_over
        if self._sides is not None:
            return self._sides.is_met(self.gripper_tip())
        return goal_met(
            self.task,
            self._goal,
            self.cube_position(),
            self.cube_speed(),
            self.gripper_tip(),
            self.task == "place" and self.cube_touched(),
        )

    def success(self, task: str | None = None) -> bool:
        """Whether the goal has been met without a break for `HOLD_STEPS` frames.

        Args:
            task (`str`, *optional*): The running task; given, it is checked against the one of the last
                reset.

        Returns:
            `bool`: Whether the episode has succeeded.

        Raises:
            ValueError: If another task is running.
        """
        if task is not None and check_task(task) != self.task:
            raise ValueError(
                f"`task` is {task!r} but the world was reset for {self.task!r}; reset it for {task!r} first."
            )
        return self._met_for_s >= (HOLD_STEPS - 0.5) / FPS

    # --- pictures -------------------------------------------------------------------------------------------

    @property
    def renderer(self) -> str:
        """Which renderer draws the frames: `mujoco` or `painter`."""
        return self._frames().name

    def _frames(self) -> FrameRenderer:
        if self._renderer is None:
            self._renderer = make_renderer(self._renderer_choice, self.model)
        return self._renderer

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """A camera's picture of the present state.

        Args:
            camera (`str`): `top` or `wrist`.
            height (`int`): Rows.
            width (`int`): Columns.

        Returns:
            `NDArray[np.uint8]`: (height, width, 3) RGB.

        Raises:
            ValueError: If there is no such camera or a size is not positive.
        """
        _check_picture(camera, height, width)
        return self._frames().render(self.data, camera, height, width)

    def depth(self, camera: str, height: int, width: int) -> NDArray[np.uint16]:
        """A camera's depth map of the present state, see `lerobot_env_koch.depth`.

        Args:
            camera (`str`): `top` or `wrist`.
            height (`int`): Rows.
            width (`int`): Columns.

        Returns:
            `NDArray[np.uint16]`: (height, width) millimetres along the camera's axis, 0 where nothing was
                measured.

        Raises:
            ValueError: If there is no such camera or a size is not positive.
        """
        _check_picture(camera, height, width)
        key = camera, height, width
        if key not in self._depth_cameras:
            self._depth_cameras[key] = DepthCamera(self.model, *key)
        return self._depth_cameras[key].measure(self.data)

    def close(self) -> None:
        """Free the renderer's resources; the world can still be stepped."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
