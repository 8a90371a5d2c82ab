# SPDX-License-Identifier: Apache-2.0
"""Joints to end-effector poses and back: Cartesian datasets and policies for an arm commanded in joints."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lerobot.configs.types import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.processor import ActionProcessorStep, ProcessorStep, ProcessorStepRegistry, TransitionKey
from lerobot.utils.constants import ACTION, OBS_STATE
from numpy.typing import NDArray

from ..configured import init_fields
from ..joint_values import SUFFIX, like, to_array
from ..kinematics.arms import ArmSettings, MotorArm
from ..kinematics.pose import Pose, angle_between, distance_m
from ..motion.present import present_joints
from ..motion.settings import require_choice, require_positive
from ..motion.streams import over_time, require_same_streams
from ..pose_values import PoseKeys, PoseSettings

FloatArray = NDArray[np.float64]
Features = dict[PipelineFeatureType, dict[str, Any]]

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class ArmStep(ArmSettings, PoseSettings):
    """A step that knows an arm and how poses are written. The fields are those of its two bases."""

    _motors: MotorArm = field(init=False, repr=False)
    _keys: PoseKeys = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._motors = self.make_motors()
        self._keys = self.make_keys(gripper=bool(self.gripper))

    def get_config(self) -> dict[str, Any]:
        """All settings."""
        return init_fields(self)

    def __getstate__(self) -> dict[str, Any]:
        # A MuJoCo model does not travel to another process: it is made there.
        return {name: value for name, value in vars(self).items() if name != "_motors"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._motors = self.make_motors()

    def motor_keys(self) -> list[str]:
        """Names of the motors in a robot's dict."""
        return [f"{name}{SUFFIX}" for name in self._motors.motor_names]

    def pose_numbers(self, motors: Sequence[float]) -> list[float]:
        """Columns of the pose of all motors."""
        arm = len(self._motors.joint_names)
        gripper = motors[arm] if self.gripper else None
        return self._keys.to_numbers(self._motors.forward(motors[:arm]), gripper)


def replaced_names(values: Mapping[str, Any], gone: Sequence[str], new: Mapping[str, Any]) -> dict[str, Any]:
    """A dict with some names in place of others, at the place of the first of them."""
    out: dict[str, Any] = {}
    placed = False
    for name, value in values.items():
        if name in gone:
            if not placed:
                out.update(new)
                placed = True
            continue
        out[name] = value
    return out if placed else {**out, **new}


def require_keys(values: Mapping[str, Any], keys: Sequence[str], what: str) -> None:
    """Raise `KeyError` naming what a dict lacks."""
    absent = [key for key in keys if key not in values]
    if absent:
        raise KeyError(
            f"{what} lacks {', '.join(f'`{key}`' for key in absent)}; it has {sorted(map(str, values))}."
        )


@ProcessorStepRegistry.register("lerobot_ext_joints_to_end_effector")
@dataclass(kw_only=True)
class JointsToEndEffectorStep(ArmStep, ProcessorStep):
    """Forward kinematics: motor values become the pose of the end effector; the gripper passes as it is.

    On a robot's side `<motor>.pos` become `ee.x`, …; on a policy's, the columns of `observation.state` and
    `action` (motors in the arm's order, gripper last) become those of the pose. Leading axes are free.

    Args:
        convert (`str`, *optional*, defaults to `"both"`): `"action"`, `"observation"` or `"both"`; what a
            transition does not have passes.
        rotation (`str`, *optional*, defaults to `"rotvec"`): `"rotvec"`, as LeRobot's own steps, or `"6d"`,
            continuous everywhere.
        suffix (`str`, *optional*): Put after each name; `".pos"` where `lerobot-rollout` has to pass them on.
        model (`str`, *optional*, defaults to `"koch"`): `"koch"`, or a URDF or MJCF file with `frame` and
            `arm_joints`.
        frame (`str`, *optional*): Body or site of a model file.
        arm_joints (`list[str]`, *optional*): Joints of a model file, from the base on.
        gripper (`str`, *optional*, defaults to `"gripper"`): Motor that passes as it is; empty for none.
        units (`str`, *optional*, defaults to `"normalized"`): `"normalized"` (-100..100) or `"degrees"`.
        ranges_deg (`dict`, *optional*): Joint angles at both ends of a motor's calibrated range.

    Raises:
        ValueError: A setting is wrong, or a tensor has another width than there are motors.
        KeyError: A robot's dict lacks a motor.
    """

    convert: str = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("convert", self.convert, ("both", "action", "observation"))

    def __call__(self, transition: Any) -> Any:
        """The transition with poses."""
        out = transition.copy()
        action, observation = out.get(TransitionKey.ACTION), out.get(TransitionKey.OBSERVATION)
        if self.convert != "observation" and action is not None:
            out[TransitionKey.ACTION] = self._converted(action, "the action")
        if self.convert != "action" and observation is not None:
            if OBS_STATE in observation:
                state = self._converted(observation[OBS_STATE], f"`{OBS_STATE}`")
                out[TransitionKey.OBSERVATION] = {**observation, OBS_STATE: state}
            else:
                out[TransitionKey.OBSERVATION] = self._converted(observation, "the observation")
        return out

    def _converted(self, values: Any, what: str) -> Any:
        if isinstance(values, Mapping):
            motors = self.motor_keys()
            require_keys(values, motors, what)
            numbers = self.pose_numbers([float(values[key]) for key in motors])
            return replaced_names(values, motors, dict(zip(self._keys.names, numbers, strict=True)))
        array = to_array(values)
        self._require_width(what, array.shape)
        rows = array.reshape(-1, array.shape[-1]).tolist()
        poses = np.array([self.pose_numbers(row) for row in rows])
        return like(values, poses.reshape(*array.shape[:-1], len(self._keys.names)))

    def _require_width(self, what: str, shape: Sequence[int]) -> None:
        motors = self._motors.motor_names
        if not shape or shape[-1] != len(motors):
            raise ValueError(
                f"{what} has shape {tuple(shape)}; its last axis must hold the {len(motors)} motors "
                f"{', '.join(motors)}."
            )

    def transform_features(self, features: Features) -> Features:
        """Poses in place of motors."""
        out = {kind: dict(named) for kind, named in features.items()}
        for kind, part, key, what in (
            (PipelineFeatureType.ACTION, "action", ACTION, FeatureType.ACTION),
            (PipelineFeatureType.OBSERVATION, "observation", OBS_STATE, FeatureType.STATE),
        ):
            named = out.get(kind)
            if not named or self.convert not in ("both", part):
                continue
            if isinstance(named.get(key), PolicyFeature):
                shape = tuple(named[key].shape)
                self._require_width(f"`{key}`", shape)
                named[key] = PolicyFeature(what, (*shape[:-1], len(self._keys.names)))
            else:
                motors = self.motor_keys()
                require_keys(named, motors, f"the {part}'s features")
                out[kind] = replaced_names(named, motors, dict.fromkeys(self._keys.names, float))
        return out


@ProcessorStepRegistry.register("lerobot_ext_end_effector_to_joints")
@dataclass(kw_only=True)
class EndEffectorToJointsStep(ArmStep, ActionProcessorStep):
    """Inverse kinematics: the pose in an action becomes motor values; the gripper passes as it is.

    The way on is found from the last solution, at an episode's start from the measured joints, so that the
    elbow does not flip. A pose that the arm cannot have is met as nearly as it can: position first, then
    pitch, then roll (an arm from a model file: position and, weighted, orientation together). Takes a robot's
    dict or tensors (D,), (B, D) for B arms, (B, T, D) for T frames in a row.

    Args:
        unreachable (`str`, *optional*, defaults to `"nearest"`): For a position further than `tolerance_m`
            from what the arm can have: `"nearest"` goes there, `"hold"` repeats the last command, `"raise"`
            is an error.
        tolerance_m (`float`, *optional*, defaults to `0.005`): In m.
        tolerance_deg (`float`, *optional*): Of the orientation, in degrees; not looked at by default, since
            an arm of five joints misses a part of nearly all.
        max_step_deg (`float`, *optional*, defaults to `15.0`): No joint turns further in one frame: at 30 fps
            what its servos can do, so that a jump of the pose, or one through a singularity, is walked. None:
            free.
        keep_branch (`bool`, *optional*, defaults to `True`): Never flip the elbow or reach over to the other
            side to get somewhere.
        invalid (`str`, *optional*, defaults to `"hold"`): A pose that is not finite repeats the last command
            (`"hold"`), or is an error (`"raise"`).
        rotation (`str`, *optional*, defaults to `"rotvec"`): How poses are written: `"rotvec"` or `"6d"`.
        suffix (`str`, *optional*): Put after each name.
        model (`str`, *optional*, defaults to `"koch"`): `"koch"`, or a URDF or MJCF file with `frame` and
            `arm_joints`.
        frame (`str`, *optional*): Body or site of a model file.
        arm_joints (`list[str]`, *optional*): Joints of a model file, from the base on.
        gripper (`str`, *optional*, defaults to `"gripper"`): Motor that passes as it is; empty for none.
        units (`str`, *optional*, defaults to `"normalized"`): `"normalized"` (-100..100) or `"degrees"`.
        ranges_deg (`dict`, *optional*): Joint angles at both ends of a motor's calibrated range.

    Raises:
        ValueError: A setting is wrong; when called: a pose is not finite or cannot be had, where that is an
            error, or it is the first and nothing is known of the arm.
        KeyError: A robot's dict lacks a part of the pose.
    """

    unreachable: str = "nearest"
    tolerance_m: float = 0.005
    tolerance_deg: float | None = None
    max_step_deg: float | None = 15.0
    keep_branch: bool = True
    invalid: str = "hold"
    _last: list[list[float] | None] | None = field(default=None, init=False, repr=False)
    _missing: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("unreachable", self.unreachable, ("nearest", "hold", "raise"))
        require_choice("invalid", self.invalid, ("hold", "raise"))
        require_positive("tolerance_m", self.tolerance_m)
        for name in ("tolerance_deg", "max_step_deg"):
            if getattr(self, name) is not None:
                require_positive(name, getattr(self, name))

    def action(self, action: Any) -> Any:
        """The action in motor values."""
        if isinstance(action, Mapping):
            names = self._keys.names
            require_keys(action, names, "the action")
            row = self._frame(np.array([[float(action[name]) for name in names]]))[0]
            motors = dict(zip(self.motor_keys(), row.tolist(), strict=True))
            return replaced_names(action, names, motors)
        array = to_array(action)
        self._require_width("the action", array.shape)
        return like(action, over_time(array, self._frame))

    def _frame(self, poses: FloatArray) -> FloatArray:
        """Motor values (B, M) of the poses (B, P) of B arms at one moment."""
        if self._last is None:
            self._last = self._measured(len(poses))
        require_same_streams(len(self._last), len(poses))
        self._last = [
            self._begun(pose) if last is None else self._continued(pose, last)
            for pose, last in zip(poses.tolist(), self._last, strict=True)
        ]
        return np.array(self._last)

    def _measured(self, streams: int) -> list[list[float] | None]:
        """Motor values at an episode's start, as far as the observation has them."""
        present = present_joints(self.transition, self._motors.motor_names, streams)
        return [None] * streams if present is None else [[float(v) for v in row] for row in present]

    def _begun(self, numbers: list[float]) -> list[float]:
        """The first command of an arm of which nothing is known: any solution will do."""
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"The first pose of an episode is not finite: {self._named(numbers)}.")
        pose, gripper = self._keys.to_pose(numbers)
        arm = self._motors.arm
        middle = [
            (low + high) / 2.0 if math.isfinite(low) and math.isfinite(high) else 0.0
            for low, high in zip(arm.lower, arm.upper, strict=True)
        ]
        q = arm.inverse(pose, middle, keep_branch=False)
        if not self._met(pose, q) and self.unreachable == "hold":
            raise ValueError(
                f"The first pose of an episode cannot be had ({self._named(numbers)}), and there is no "
                'command to repeat; begin with one in reach, or set `unreachable` to "nearest".'
            )
        return self._commanded(q, gripper)

    def _continued(self, numbers: list[float], last: list[float]) -> list[float]:
        """The command after another one."""
        if not all(map(math.isfinite, numbers)):
            if self.invalid == "raise":
                raise ValueError(f"The pose is not finite: {self._named(numbers)}.")
            return last
        pose, gripper = self._keys.to_pose(numbers)
        start = self._motors.to_rad(last[: len(self._motors.joint_names)])
        q = self._motors.arm.inverse(pose, start, keep_branch=self.keep_branch)
        if not self._met(pose, q) and self.unreachable == "hold":
            return last
        if self.max_step_deg is not None:
            largest = math.radians(self.max_step_deg)
            q = tuple(s + min(max(a - s, -largest), largest) for a, s in zip(q, start, strict=True))
        return self._commanded(q, gripper)

    def _commanded(self, q: Sequence[float], gripper: float | None) -> list[float]:
        return [*self._motors.to_motors(q), *([] if gripper is None else [gripper])]

    def _met(self, pose: Pose, q: Sequence[float]) -> bool:
        """Whether joint angles have a pose, within the tolerances; the first miss of each run is logged."""
        got = self._motors.arm.forward(q)
        missed_m = distance_m(pose.position, got.position)
        missed_deg = math.degrees(angle_between(pose.rotation, got.rotation)) if self.tolerance_deg else 0.0
        if missed_m <= self.tolerance_m and missed_deg <= (self.tolerance_deg or 0.0):
            self._missing = False
            return True
        where = ", ".join(f"{value:.3f}" for value in pose.position)
        message = f"The arm misses the pose at ({where}) m by {missed_m * 1e3:.1f} mm"
        if self.tolerance_deg:
            message += f" and {missed_deg:.1f}°"
        if self.unreachable == "raise":
            raise ValueError(f"{message}; `lerobot_ext_workspace_bounds` keeps poses in reach.")
        if not self._missing:
            logger.warning("%s; it %s.", message, "waits" if self.unreachable == "hold" else "goes as near")
        self._missing = True
        return False

    def _named(self, numbers: Sequence[float]) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in zip(self._keys.names, numbers, strict=True))

    def _require_width(self, what: str, shape: Sequence[int]) -> None:
        names = self._keys.names
        if not shape or shape[-1] != len(names):
            raise ValueError(
                f"{what} has shape {tuple(shape)}; its last axis must hold {len(names)} numbers: "
                f"{', '.join(names)}."
            )

    def reset(self) -> None:
        """Begin a new episode: from wherever the arm is then."""
        self._last = None
        self._missing = False

    def transform_features(self, features: Features) -> Features:
        """Motors in place of the pose."""
        out = {kind: dict(named) for kind, named in features.items()}
        named = out.get(PipelineFeatureType.ACTION)
        if not named:
            return out
        if isinstance(named.get(ACTION), PolicyFeature):
            shape = tuple(named[ACTION].shape)
            self._require_width("`action`", shape)
            named[ACTION] = PolicyFeature(FeatureType.ACTION, (*shape[:-1], len(self._motors.motor_names)))
            return out
        require_keys(named, self._keys.names, "the action's features")
        motors = dict.fromkeys(self.motor_keys(), float)
        out[PipelineFeatureType.ACTION] = replaced_names(named, self._keys.names, motors)
        return out
