# SPDX-License-Identifier: Apache-2.0
"""A gamepad or a phone moves the end effector: their actions become targets for inverse kinematics.

Both keep a *target*, which starts at the measured pose and moves with the device while it is engaged. Between
a target and the arm a leash: a target out of reach does not run away, so that the way back begins at once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lerobot.configs.types import PipelineFeatureType
from lerobot.processor import ProcessorStepRegistry, RobotActionProcessorStep, TransitionKey

from ..joint_values import SUFFIX
from ..kinematics.pose import Matrix, Pose, Vector, matrix_from_rotvec, multiply, rotvec_from_matrix
from ..motion.settings import require_positive
from ..motion.teleop_axes import AxisMap
from .end_effector import ArmStep, require_keys

Features = dict[PipelineFeatureType, dict[str, Any]]

STAY = 1.0
"""The gripper key of LeRobot's gamepad and keyboard: 0 closes, 1 stays, 2 opens."""


@dataclass(kw_only=True)
class _TargetStep(ArmStep, RobotActionProcessorStep):
    """What both share: the target, its leash, the gripper.

    Args:
        gripper_step (`float`): What the gripper moves by in a frame at full speed, in its unit.
        gripper_range (`list[float]`): Its closed and its open end.
        leash_m (`float`, *optional*): How far the target may be from where the arm is; None: any distance.
    """

    gripper_step: float = 3.0
    gripper_range: list[float] = field(default_factory=lambda: [0.0, 100.0])
    leash_m: float | None = 0.05
    _target: Pose | None = field(default=None, init=False, repr=False)
    _grip: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("gripper_step", self.gripper_step)
        if len(self.gripper_range) != 2 or not self.gripper_range[0] < self.gripper_range[1]:
            raise ValueError(f"`gripper_range` is {self.gripper_range}; give [closed, open].")
        if self.leash_m is not None:
            require_positive("leash_m", self.leash_m)

    def _present(self) -> tuple[Pose, float]:
        """Where the arm is, and its gripper.

        Raises:
            ValueError: The transition has no observation.
            KeyError: The observation lacks a motor.
        """
        observation = self.transition.get(TransitionKey.OBSERVATION)
        if not isinstance(observation, Mapping):
            raise ValueError(
                f"{type(self).__name__} needs the robot's observation: a target starts where the arm is. "
                "Put the step into the pipeline `teleop_action`."
            )
        require_keys(observation, self.motor_keys(), "the observation")
        q = [float(observation[f"{name}{SUFFIX}"]) for name in self._motors.joint_names]
        grip = float(observation[f"{self.gripper}{SUFFIX}"]) if self.gripper else 0.0
        return self._motors.forward(q), grip

    def _begun(self, present: Pose, grip: float) -> Pose:
        """The target, which starts at the measured pose."""
        if self._target is None:
            self._target, self._grip = present, grip
        return self._target

    def _named(self, present: Pose, target: Pose, grip_speed: float) -> dict[str, float]:
        """The target's numbers, held to the leash; the gripper moves on."""
        self._target = Pose(self._leashed(present.position, target.position), target.rotation)
        low, high = self.gripper_range
        if grip_speed != 0.0:
            self._grip = min(max(self._grip + grip_speed * self.gripper_step, low), high)
        numbers = self._keys.to_numbers(self._target, self._grip if self.gripper else None)
        return dict(zip(self._keys.names, numbers, strict=True))

    def _leashed(self, present: Vector, target: Vector) -> Vector:
        far = math.dist(present, target)
        if self.leash_m is None or far <= self.leash_m:
            return target
        x, y, z = (p + (t - p) * self.leash_m / far for p, t in zip(present, target, strict=True))
        return x, y, z

    def reset(self) -> None:
        """Begin a new episode: the target is where the arm is then."""
        self._target = None

    def transform_features(self, features: Features) -> Features:
        """A pose in place of everything that the device says."""
        return {**features, PipelineFeatureType.ACTION: dict.fromkeys(self._keys.names, float)}


@ProcessorStepRegistry.register("lerobot_ext_gamepad_to_end_effector")
@dataclass(kw_only=True)
class GamepadToEndEffectorStep(_TargetStep):
    """LeRobot's gamepad (or `keyboard_ee`) moves the target: `delta_x`, `delta_y`, `delta_z`, `gripper`.

    The hand keeps its pitch and turns with the arm: an arm of five joints cannot point elsewhere than away
    from its pan axis.

    Args:
        step_m (`float`, *optional*, defaults to `0.004`): How far the target moves in a frame at full
            deflection: at 30 fps 0.12 m/s.
        axes (`list[str]`, *optional*): Which delta moves the arm along x, y, z. LeRobot's +x is forward and
            +y left; the Koch's +y is forward and +x right, hence `["-y", "x", "z"]`. For an arm whose x is
            forward `["x", "y", "z"]`.
        dead_zone (`float`, *optional*, defaults to `0.05`): Smaller deflections count as none.
        turn_with_arm (`bool`, *optional*, defaults to `True`): Turn the hand by as much as the target goes
            round the arm's upright axis; without it the orientation stays as it was.
        gripper_step (`float`, *optional*, defaults to `3.0`): What the gripper moves by in a frame.
        gripper_range (`list[float]`, *optional*): Its closed and its open end.
        leash_m (`float`, *optional*, defaults to `0.05`): How far the target may be from where the arm is.
        rotation (`str`, *optional*, defaults to `"rotvec"`): How poses are written: `"rotvec"` or `"6d"`.
        suffix (`str`, *optional*): Put after each name of a pose.
        model (`str`, *optional*, defaults to `"koch"`): `"koch"`, or a URDF or MJCF file.
        frame (`str`, *optional*): Body or site of a model file.
        arm_joints (`list[str]`, *optional*): Joints of a model file, from the base on.
        gripper (`str`, *optional*, defaults to `"gripper"`): The gripper's motor; empty for none.
        units (`str`, *optional*, defaults to `"normalized"`): `"normalized"` (-100..100) or `"degrees"`.
        ranges_deg (`dict`, *optional*): Joint angles at both ends of a motor's calibrated range.

    Raises:
        ValueError: A setting is wrong; when called: there is no observation, or a delta is not finite.
        KeyError: A delta or a motor is missing.
    """

    step_m: float = 0.004
    axes: list[str] = field(default_factory=lambda: ["-y", "x", "z"])
    dead_zone: float = 0.05
    turn_with_arm: bool = True
    _axis_map: AxisMap = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("step_m", self.step_m)
        require_positive("dead_zone", self.dead_zone, zero=True)
        self._axis_map = AxisMap(self.axes)

    def action(self, action: Any) -> dict[str, float]:
        """The pose to go to."""
        require_keys(action, ("delta_x", "delta_y", "delta_z"), "the action")
        deltas = [float(action[f"delta_{axis}"]) for axis in "xyz"]
        if not all(map(math.isfinite, deltas)):
            raise ValueError(f"`delta_x`, `delta_y`, `delta_z` are {deltas}; is the gamepad connected?")
        deltas = [delta if abs(delta) >= self.dead_zone else 0.0 for delta in deltas]
        present, grip = self._present()
        target = self._begun(present, grip)
        x, y, z = (
            p + self.step_m * d for p, d in zip(target.position, self._axis_map.moved(deltas), strict=True)
        )
        speed = float(action.get("gripper", STAY)) - STAY
        return self._named(
            present, Pose((x, y, z), self._turned(target, (x, y, z))), min(max(speed, -1.0), 1.0)
        )

    def _turned(self, target: Pose, position: Vector) -> Matrix:
        """The hand's orientation at the new position."""
        before, after = target.position, position
        near_axis = min(math.hypot(before[0], before[1]), math.hypot(after[0], after[1])) < 0.02
        if not self.turn_with_arm or near_axis:
            return target.rotation
        turn = math.atan2(after[1], after[0]) - math.atan2(before[1], before[0])
        return multiply(matrix_from_rotvec((0.0, 0.0, math.remainder(turn, math.tau))), target.rotation)


@ProcessorStepRegistry.register("lerobot_ext_phone_to_end_effector")
@dataclass(kw_only=True)
class PhoneToEndEffectorStep(_TargetStep):
    """LeRobot's phone moves the target while its button is held: `phone.pos`, `phone.rot`, `phone.enabled`.

    A clutch: where the phone is when the button goes down belongs to the target of that moment, and from
    there on the target moves and turns as the phone does. Released, the target stays, and the hand that holds
    the phone may go back. No pose (LeRobot's phone says nothing while it is not tracked) counts as released.

    Difference from LeRobot's `map_phone_action_to_robot_action`: orientations are turned in the frame of the
    base, like positions, and not in that of an SO-100's gripper.

    Args:
        scale (`float`, *optional*, defaults to `0.5`): Metres of the target per metre of the phone.
        turn_scale (`float`, *optional*, defaults to `1.0`): Angle of the target per angle of the phone; 0
            keeps the orientation.
        axes (`list[str]`, *optional*): Which of the phone's axes moves the arm along x, y, z. LeRobot maps an
            arm with x forward by `["-y", "x", "z"]`; for the Koch, whose y is forward and x right, that is
            `["-x", "-y", "z"]`.
        gripper_step (`float`, *optional*, defaults to `3.0`): What the gripper moves by in a frame at full
            speed.
        gripper_range (`list[float]`, *optional*): Its closed and its open end.
        leash_m (`float`, *optional*, defaults to `0.05`): How far the target may be from where the arm is.
        rotation (`str`, *optional*, defaults to `"rotvec"`): How poses are written: `"rotvec"` or `"6d"`.
        suffix (`str`, *optional*): Put after each name of a pose.
        model (`str`, *optional*, defaults to `"koch"`): `"koch"`, or a URDF or MJCF file.
        frame (`str`, *optional*): Body or site of a model file.
        arm_joints (`list[str]`, *optional*): Joints of a model file, from the base on.
        gripper (`str`, *optional*, defaults to `"gripper"`): The gripper's motor; empty for none.
        units (`str`, *optional*, defaults to `"normalized"`): `"normalized"` (-100..100) or `"degrees"`.
        ranges_deg (`dict`, *optional*): Joint angles at both ends of a motor's calibrated range.

    Raises:
        ValueError: A setting is wrong; when called: there is no observation, or a pose is not finite.
        KeyError: A part of the phone's pose or a motor is missing.
    """

    scale: float = 0.5
    turn_scale: float = 1.0
    axes: list[str] = field(default_factory=lambda: ["-x", "-y", "z"])
    _axis_map: AxisMap = field(init=False, repr=False)
    _clutch: tuple[Vector, Vector, Pose] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("scale", self.scale)
        require_positive("turn_scale", self.turn_scale, zero=True)
        self._axis_map = AxisMap(self.axes)

    def action(self, action: Any) -> dict[str, float]:
        """The pose to go to."""
        present, grip = self._present()
        target = self._begun(present, grip)
        if not action:
            self._clutch = None
            return self._named(present, target, 0.0)
        require_keys(action, ("phone.pos", "phone.rot", "phone.enabled"), "the action")
        if not bool(action["phone.enabled"]):
            self._clutch = None
        else:
            target = self._followed(action, target)
        return self._named(present, target, _gripper_speed(action.get("phone.raw_inputs") or {}))

    def _followed(self, action: Mapping[str, Any], target: Pose) -> Pose:
        place = tuple(float(v) for v in action["phone.pos"])
        turn = tuple(float(v) for v in action["phone.rot"].as_rotvec())
        if len(place) != 3 or not all(map(math.isfinite, (*place, *turn))):
            raise ValueError(f"`phone.pos` {place} and `phone.rot` {turn} are no pose.")
        here: tuple[Vector, Vector] = ((place[0], place[1], place[2]), (turn[0], turn[1], turn[2]))
        if self._clutch is None:
            self._clutch = (*here, target)
        place_then, turn_then, target_then = self._clutch
        way = self._axis_map.moved([a - b for a, b in zip(here[0], place_then, strict=True)])
        x, y, z = (p + self.scale * d for p, d in zip(target_then.position, way, strict=True))
        turned = self._turned(here[1], turn_then, target_then.rotation)
        return Pose((x, y, z), turned)

    def _turned(self, now: Vector, then: Vector, rotation: Matrix) -> Matrix:
        """An orientation, turned as the phone was turned since."""
        undone = matrix_from_rotvec((-then[0], -then[1], -then[2]))
        since = rotvec_from_matrix(multiply(matrix_from_rotvec(now), undone))
        x, y, z = (self.turn_scale * v for v in self._axis_map.turned(since))
        return multiply(matrix_from_rotvec((x, y, z)), rotation)

    def reset(self) -> None:
        """Begin a new episode: the target is where the arm is then, and the clutch is released."""
        super().reset()
        self._clutch = None


def _gripper_speed(inputs: Mapping[str, Any]) -> float:
    """-1 (close) to 1 (open): an iPhone's third slider, or the two buttons of an Android page."""
    speed = (
        float(inputs["a3"])
        if "a3" in inputs
        else float(inputs.get("reservedButtonA", 0.0)) - float(inputs.get("reservedButtonB", 0.0))
    )
    return min(max(speed, -1.0), 1.0) if math.isfinite(speed) else 0.0
