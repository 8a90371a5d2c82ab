# SPDX-License-Identifier: Apache-2.0
"""Six servos, how they are mounted, and the pose the physics last reported: one arm of the bench.

The bus thread reads the pose and writes goals, the physics thread the other way round; both exchange whole
immutable values by attribute assignment, so neither ever waits for the other.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lerobot_env_koch.bench.calibration import CalibrationWatch, Phase
from lerobot_env_koch.bench.registers import MODELS, Register
from lerobot_env_koch.bench.servo import TICKS_PER_TURN, Servo, Shaft
from lerobot_env_koch.constants import FOLLOWER_SERVOS, JOINT_NAMES, LEADER_SERVOS
from lerobot_env_koch.constants import Servo as ServoSpec
from lerobot_env_koch.units import MID_RAD

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

TICKS_PER_RAD: Final = TICKS_PER_TURN / math.tau
_QUARTER_TICK_RAD: Final = 0.25 / TICKS_PER_RAD


@dataclass(frozen=True)
class Mount:
    """How a servo sits in the arm: where its encoder stands at joint angle zero, and which way it turns.

    Args:
        zero_ticks (`int`): Encoder reading at joint angle 0; differs from servo to servo, as horns are put on
            anyhow.
        direction (`int`): 1, or -1 for a servo mounted the other way round.
    """

    zero_ticks: int
    direction: int = 1

    def to_ticks(self, q_rad: float) -> float:
        """Encoder ticks of a joint angle."""
        return self.zero_ticks + self.direction * q_rad * TICKS_PER_RAD

    def to_rad(self, ticks: float) -> float:
        """Joint angle of encoder ticks."""
        return self.direction * (ticks - self.zero_ticks) / TICKS_PER_RAD


FOLLOWER_MOUNTS: Final = tuple(Mount(zero) for zero in (2113, 1870, 2301, 1999, 2250, 1154))
# The leader's elbow servo is mirrored: stock calibration inverts its drive mode.
LEADER_MOUNTS: Final = (Mount(1961), Mount(2222), Mount(1790, -1), Mount(2080), Mount(2011), Mount(930))


class Arm:
    """One arm: servos for the bus, poses for the physics.

    Args:
        name (`str`): `follower` or `leader`.
        servos (`Mapping[str, ServoSpec]`): Ids and models by joint name.
        mounts (`Sequence[Mount]`): One for each joint.

    Attributes:
        shows_clock (`bool`): Whether every `Present_Position` shows `clock_ticks` instead of its joint.
    """

    def __init__(self, name: str, servos: Mapping[str, ServoSpec], mounts: Sequence[Mount]) -> None:
        self.name = name
        self.watch = CalibrationWatch([spec.id for spec in servos.values()])
        self._mounts = tuple(mounts)
        self.shows_clock = False
        zeros = (0.0,) * len(JOINT_NAMES)
        self._state: tuple[tuple[float, ...], ...] = (tuple(MID_RAD.tolist()), zeros, zeros)
        self._snapped = False
        self.servos = [
            Servo(MODELS[servos[joint].model], servos[joint].id, partial(self._shaft, i), self._written)
            for i, joint in enumerate(JOINT_NAMES)
        ]

    # --- the physics' side

    def publish(self, q_rad: FloatArray, q_dot: FloatArray, current_a: FloatArray) -> None:
        """Tell the servos where the joints are now.

        Args:
            q_rad (`FloatArray`): (6,) joint angles in rad.
            q_dot (`FloatArray`): (6,) joint speeds in rad/s.
            current_a (`FloatArray`): (6,) motor currents in A.
        """
        if self._snapped:
            # Shown in the middle already; true as soon as the hand has dragged the joints there.
            if self.watch.phase is Phase.MIDDLE and np.abs(q_rad - MID_RAD).max() > _QUARTER_TICK_RAD:
                q_rad = MID_RAD
            else:
                self._snapped = False
        self._state = (tuple(q_rad.tolist()), tuple(q_dot.tolist()), tuple(current_a.tolist()))

    @property
    def q_rad(self) -> FloatArray:
        """(6,) joint angles that the servos report now, before rounding to ticks."""
        return np.array(self._state[0])

    def torque(self) -> BoolArray:
        """(6,) which servos drive their joint."""
        return np.array([servo.goal_ticks is not None for servo in self.servos])

    @property
    def limp(self) -> bool:
        """Whether no servo has torque."""
        return not any(servo.torque_enabled for servo in self.servos)

    def goals(self) -> FloatArray:
        """(6,) joint angles the servos are driven to; the present angle where a servo is limp."""
        present = self._state[0]
        goals = [servo.goal_ticks for servo in self.servos]
        return np.array(
            [
                q if ticks is None else mount.to_rad(ticks)
                for q, ticks, mount in zip(present, goals, self._mounts, strict=True)
            ]
        )

    def shaft_ticks(self, joint: int, q_rad: float) -> float:
        """Where the shaft of a joint's servo stands, in its own ticks, when the joint is at `q_rad`."""
        return self._mounts[joint].to_ticks(q_rad)

    # --- permanent memory

    @property
    def n_eeprom_writes(self) -> int:
        """Accepted writes to permanent memory of any servo."""
        return sum(servo.n_eeprom_writes for servo in self.servos)

    def eeprom(self) -> dict[str, dict[str, int]]:
        """Permanent memory of each servo, by joint name."""
        return {joint: servo.eeprom() for joint, servo in zip(JOINT_NAMES, self.servos, strict=True)}

    def load_eeprom(self, values: Mapping[str, Mapping[str, int]]) -> None:
        """Restore what `eeprom` returned."""
        for joint, servo in zip(JOINT_NAMES, self.servos, strict=True):
            servo.load_eeprom(dict(values.get(joint, {})))

    # --- the servos' side (bus thread)

    def _shaft(self, i: int) -> Shaft:
        if self.shows_clock:
            return Shaft(self.servos[i].to_shaft(clock_ticks()))
        mount = self._mounts[i]
        q, q_dot, current = (values[i] for values in self._state)
        return Shaft(mount.to_ticks(q), mount.direction * q_dot * TICKS_PER_RAD, mount.direction * current)

    def _written(self, servo: Servo, register: Register, value: int) -> None:
        if self.watch.on_write(servo.id, register.name, value, limp=self.limp):
            # The homing read follows within milliseconds: whoever holds the arm has it in the middle by now.
            self._snapped = True
            zeros = (0.0,) * len(JOINT_NAMES)
            self._state = (tuple(MID_RAD.tolist()), zeros, zeros)


def clock_ticks() -> int:
    """The monotonic clock as a position: milliseconds, beginning anew every 4096.

    A client that reads it back knows how old a value is, without believing anyone's book-keeping.
    """
    return int(time.monotonic() * 1000) % TICKS_PER_TURN


def make_follower() -> Arm:
    """A Koch v1.1 follower."""
    return Arm("follower", FOLLOWER_SERVOS, FOLLOWER_MOUNTS)


def make_leader() -> Arm:
    """A Koch v1.1 leader."""
    return Arm("leader", LEADER_SERVOS, LEADER_MOUNTS)
