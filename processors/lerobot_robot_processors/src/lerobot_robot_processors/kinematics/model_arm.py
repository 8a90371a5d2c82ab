# SPDX-License-Identifier: Apache-2.0
"""Kinematics of any serial arm from its URDF or MJCF, by MuJoCo: exact forward, least squares back.

The inverse minimises the squared distance to the wished position plus, weighted, the squared angle to the
wished orientation, within the joints' ranges, from where the arm is (Levenberg-Marquardt with MuJoCo's
Jacobian and an active set). It finds the way on from there and never another branch: small changes of a pose
give small changes of the joints, except at singularities.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .pose import Pose

FloatArray = NDArray[np.float64]

ORIENTATION_WEIGHT_M: Final = 0.05
"""How many metres of position weigh as much as a radian of orientation."""
_ITERATIONS: Final = 30


class ModelArm:
    """The pose of a body or site of a model.

    Args:
        path (`Path`): A URDF or MJCF file.
        frame (`str`): The body or site that is the end effector.
        joint_names (`Sequence[str]`): The arm's joints without the gripper, from the base on.

    Raises:
        ImportError: MuJoCo is not installed.
        FileNotFoundError: There is no such file.
        ValueError: The file is no model, or has no such frame or joint; or a joint does not turn.
    """

    def __init__(self, path: Path, frame: str, joint_names: Sequence[str]) -> None:
        self._mujoco = _import_mujoco()
        if not path.is_file():
            raise FileNotFoundError(f"`model` {str(path)!r} is not there; give a URDF or MJCF file.")
        try:
            self._model = self._mujoco.MjModel.from_xml_path(str(path))
        except ValueError as error:
            raise ValueError(f"`model` {str(path)!r} is nothing that MuJoCo reads: {error}") from error
        self._data = self._mujoco.MjData(self._model)
        self.joint_names = tuple(joint_names)
        joints = [self._joint(path, name) for name in self.joint_names]
        self._qpos = np.array([int(joint.qposadr[0]) for joint in joints])
        self._dofs = np.array([int(joint.dofadr[0]) for joint in joints])
        free = [not bool(self._model.jnt_limited[joint.id]) for joint in joints]
        ranges = np.array([self._model.jnt_range[joint.id] for joint in joints])
        self.lower = tuple(float(v) for v in np.where(free, -np.inf, ranges[:, 0]))
        self.upper = tuple(float(v) for v in np.where(free, np.inf, ranges[:, 1]))
        self._frame = self._find_frame(path, frame)

    def _joint(self, path: Path, name: str) -> Any:
        model, hinge = self._model, int(self._mujoco.mjtJoint.mjJNT_HINGE)
        turning = [model.joint(i).name for i in range(model.njnt) if int(model.jnt_type[i]) == hinge]
        if name not in turning:
            known = ", ".join(turning)
            raise ValueError(f"{path} has no hinge joint {name!r} (`arm_joints`); it has {known}.")
        return self._model.joint(name)

    def _find_frame(self, path: Path, name: str) -> tuple[Any, Any, Any, int]:
        """Position, orientation, Jacobian function and id of the frame."""
        data, mujoco = self._data, self._mujoco
        sites = {self._model.site(i).name: i for i in range(self._model.nsite)}
        bodies = {self._model.body(i).name: i for i in range(self._model.nbody)}
        if name in sites:
            i = sites[name]
            return data.site_xpos[i], data.site_xmat[i], mujoco.mj_jacSite, i
        if name in bodies:
            i = bodies[name]
            return data.xpos[i], data.xmat[i], mujoco.mj_jacBody, i
        known = ", ".join(n for n in [*sites, *bodies] if n)
        raise ValueError(f"{path} has no site or body {name!r} (`frame`); it has {known}.")

    def forward(self, q: Sequence[float]) -> Pose:
        """The frame's pose at joint angles in rad."""
        self._data.qpos[self._qpos] = q
        self._mujoco.mj_kinematics(self._model, self._data)
        position, rotation = self._frame[:2]
        return Pose(tuple(position.tolist()), tuple(rotation.tolist()))

    def inverse(self, pose: Pose, start: Sequence[float], *, keep_branch: bool = True) -> tuple[float, ...]:
        """The joint angles nearest to a pose, on from a start; see `KochArm.inverse`.

        Args:
            pose (`Pose`): Where the frame should be.
            start (`Sequence[float]`): Where the arm is.
            keep_branch (`bool`, *optional*, defaults to `True`): Of no use here: the search stays in its
                branch.
        """
        lower, upper = np.array(self.lower), np.array(self.upper)
        q = np.clip(np.array(start, dtype=np.float64), lower, upper)
        damping = 1e-6
        error, jacobian = self._errors(pose, q)
        cost = float(error @ error)
        for _ in range(_ITERATIONS):
            gradient = jacobian.T @ error
            free = ~((q <= lower) & (gradient < 0.0)) & ~((q >= upper) & (gradient > 0.0))
            if not free.any() or float(np.abs(gradient[free]).max()) < 1e-12:
                break
            part = jacobian[:, free]
            step = np.linalg.solve(part.T @ part + damping * np.eye(int(free.sum())), gradient[free])
            trial = q.copy()
            trial[free] = np.clip(q[free] + np.clip(step, -0.5, 0.5), lower[free], upper[free])
            trial_error, trial_jacobian = self._errors(pose, trial)
            trial_cost = float(trial_error @ trial_error)
            if trial_cost < cost:
                done = cost - trial_cost < 1e-14
                q, error, jacobian, cost = trial, trial_error, trial_jacobian, trial_cost
                damping = max(damping * 0.1, 1e-12)
                if done:
                    break
            else:
                damping = max(damping * 10.0, 1e-6)
                if damping > 10.0:
                    break
        return tuple(q.tolist())

    def _errors(self, pose: Pose, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What is missing, (6,), and how the joints change it, (6, n)."""
        data, mujoco = self._data, self._mujoco
        data.qpos[self._qpos] = q
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        position, rotation, jacobian_of, index = self._frame
        turned = np.empty(3)
        now, wished, back = np.empty(4), np.empty(4), np.empty(4)
        mujoco.mju_mat2Quat(now, rotation)
        mujoco.mju_mat2Quat(wished, np.array(pose.rotation))
        mujoco.mju_negQuat(back, now)
        left = np.empty(4)
        mujoco.mju_mulQuat(left, wished, back)
        mujoco.mju_quat2Vel(turned, left, 1.0)
        place, turn = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        jacobian_of(self._model, data, place, turn, index)
        w = ORIENTATION_WEIGHT_M
        error = np.concatenate([np.array(pose.position) - position, w * turned])
        return error, np.concatenate([place[:, self._dofs], w * turn[:, self._dofs]])

    def __getstate__(self) -> None:
        raise TypeError("A MuJoCo model is not sent to another process; make it there from its file.")


def _import_mujoco() -> Any:
    try:
        import mujoco
    except ImportError as error:
        raise ImportError(
            "A `model` file needs MuJoCo: pip install 'lerobot_robot_processors[models]'"
        ) from error
    return mujoco
