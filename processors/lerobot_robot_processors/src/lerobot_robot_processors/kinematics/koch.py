# SPDX-License-Identifier: Apache-2.0
"""The Koch's kinematics in closed form, and the nearest pose where there is no exact one.

The arm has five joints, so a pose has five numbers to choose: pan turns a vertical plane, in which lift,
elbow and wrist flex place tip and pitch, and roll turns the hand about its own axis. `R = Rz(pan) Rx(-pitch)
Ry(roll)`, pitch = lift + elbow + wrist flex. Of a wished orientation the part across the plane cannot be had
and is left out.

What `inverse` promises:

- A pose that the arm can have is met exactly. Of up to four ways (front or back, elbow up or down) it stays
with
  the one of `start`, so that the elbow never flips on a path.
- A pose that it cannot have: the position comes first, then the pitch, then the roll. Pan and roll end at
their
  stops, and the other three are where 1 mm of position weighs as much as 11° of pitch.
- Solutions move continuously with the pose, but at the singularities of the arm: the pan where the tip passes
its
  own axis, which is why callers limit the step.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from lerobot_ext.arms.koch import (
    ELBOW_TO_WRIST_M,
    JOINT_NAMES,
    JOINT_RANGES_RAD,
    LIFT_AXIS_HEIGHT_M,
    LIFT_TO_ELBOW_M,
    WRIST_TO_TIP_M,
)

from .pose import Pose

ARM_JOINTS: Final = JOINT_NAMES[:5]
_LOWER: Final = tuple(JOINT_RANGES_RAD[name][0] for name in ARM_JOINTS)
_UPPER: Final = tuple(JOINT_RANGES_RAD[name][1] for name in ARM_JOINTS)

_L1: Final = math.hypot(*LIFT_TO_ELBOW_M)
_L2: Final = math.hypot(*ELBOW_TO_WRIST_M)
_L3: Final = WRIST_TO_TIP_M
_H: Final = LIFT_AXIS_HEIGHT_M
_ANGLE_1: Final = math.atan2(LIFT_TO_ELBOW_M[1], LIFT_TO_ELBOW_M[0])
_ANGLE_2: Final = math.atan2(ELBOW_TO_WRIST_M[1], ELBOW_TO_WRIST_M[0])

_EPSILON: Final = 1e-9
# A start this near to a straight elbow or to the pan axis belongs to both ways round.
_STRAIGHT: Final = 0.1
_NEAR_AXIS_M: Final = 0.02
# A solution as near as this is no flip, whichever way round it is.
_SMALL_STEP: Final = 0.5
_PITCH_WEIGHT_M: Final = 0.005
_ITERATIONS: Final = 40


class KochArm:
    """Tip pose of a Koch v1.1 follower: see the module. Angles in rad, without the gripper."""

    joint_names: tuple[str, ...] = ARM_JOINTS
    lower: tuple[float, ...] = _LOWER
    upper: tuple[float, ...] = _UPPER

    def forward(self, q: Sequence[float]) -> Pose:
        """The tip's pose of joint angles (5,)."""
        pan, lift, elbow, wrist, roll = q
        pitch = lift + elbow + wrist
        reach, height = _planar(lift, elbow, pitch)
        sa, ca = math.sin(pan), math.cos(pan)
        sp, cp = math.sin(pitch), math.cos(pitch)
        sr, cr = math.sin(roll), math.cos(roll)
        rotation = (
            ca * cr + sa * sp * sr,
            -sa * cp,
            ca * sr - sa * sp * cr,
            sa * cr - ca * sp * sr,
            ca * cp,
            sa * sr + ca * sp * cr,
            -cp * sr,
            -sp,
            cp * cr,
        )
        return Pose((-sa * reach, ca * reach, height), rotation)

    def inverse(self, pose: Pose, start: Sequence[float], *, keep_branch: bool = True) -> tuple[float, ...]:
        """The joint angles whose pose is nearest, on the way on from `start`.

        Args:
            pose (`Pose`): Where the tip should be.
            start (`Sequence[float]`): (5,) where the arm is now.
            keep_branch (`bool`, *optional*, defaults to `True`): Never flip elbow or arm over; without it the
                nearest of all exact solutions is taken.

        Returns:
            (5,) angles within the stops.
        """
        wanted = _Wanted(pose, start)
        best: tuple[float, ...] | None = None
        best_step = math.inf
        for solution in wanted.exact():
            step = max(abs(a - b) for a, b in zip(solution, start, strict=True))
            if keep_branch and step > _SMALL_STEP and not wanted.same_branch(solution):
                continue
            if step < best_step:
                best, best_step = solution, step
        return best if best is not None else wanted.nearest()


class _Wanted:
    """A pose as pan plane, reach, height, pitch and roll.

    Args:
        pose (`Pose`): Where the tip should be.
        start (`Sequence[float]`): (5,) where the arm is.
    """

    __slots__ = ("_height", "_pan", "_reach", "_rotation", "_start", "_start_reach")

    def __init__(self, pose: Pose, start: Sequence[float]) -> None:
        x, y, self._height = pose.position
        self._rotation = pose.rotation
        self._start = start
        self._start_reach = _planar(start[1], start[2], start[1] + start[2] + start[3])[0]
        self._reach = math.hypot(x, y)
        if self._reach > _EPSILON:
            self._pan = math.atan2(-x, y)
        elif math.hypot(pose.rotation[1], pose.rotation[4]) > 1e-6:
            # On the pan axis the hand's own direction tells the plane.
            self._pan = math.atan2(-pose.rotation[1], pose.rotation[4])
        else:
            self._pan = start[0]

    def exact(self) -> Iterator[tuple[float, ...]]:
        """All solutions within the stops that have position and pitch."""
        for pan, reach in ((self._pan, self._reach), (_turned(self._pan + math.pi), -self._reach)):
            if not _LOWER[0] - _EPSILON <= pan <= _UPPER[0] + _EPSILON:
                continue
            pitch = self._pitch(pan)
            for lift, elbow in _two_links(
                reach - _L3 * math.cos(pitch), self._height + _L3 * math.sin(pitch) - _H
            ):
                wrist = _turned(pitch - lift - elbow)
                if (
                    _within(1, lift) and _within(2, elbow) and _within(3, wrist)
                ):  # the roll always is: it ends at its stops
                    yield (
                        _clamped(0, pan),
                        _clamped(1, lift),
                        _clamped(2, elbow),
                        _clamped(3, wrist),
                        self._roll(pan, pitch),
                    )

    def same_branch(self, solution: tuple[float, ...]) -> bool:
        """Whether the arm gets there from its start without flipping the elbow or reaching over itself."""
        before, after = math.sin(_bend(self._start[2])), math.sin(_bend(solution[2]))
        if before * after < 0.0 and abs(before) > _STRAIGHT:
            return False
        reach = _planar(solution[1], solution[2], solution[1] + solution[2] + solution[3])[0]
        return reach * self._start_reach >= 0.0 or abs(self._start_reach) < _NEAR_AXIS_M

    def nearest(self) -> tuple[float, ...]:
        """The nearest pose that can be had, found on from the start."""
        wished = self._wished_pan()
        pan = _clamped(0, wished)
        # What is left of the way to the tip in the plane that the pan can have.
        forwards = self._reach if math.cos(wished - self._pan) > 0.0 else -self._reach
        reach = forwards * math.cos(wished - pan)
        pitch = self._pitch(pan)
        lift, elbow, wrist = _least_squares(reach, self._height, pitch, self._start[1:4])
        return pan, lift, elbow, wrist, self._roll(pan, lift + elbow + wrist)

    def _wished_pan(self) -> float:
        """The pan that looks along the tip's direction, from the arm's own side of the axis."""
        if self._reach <= _EPSILON:
            return self._pan
        if abs(self._start_reach) >= _NEAR_AXIS_M:
            pan = self._pan if self._start_reach > 0.0 else self._pan + math.pi
            return self._start[0] + _turned(pan - self._start[0])
        forwards = _turned(self._pan - self._start[0])
        backwards = _turned(self._pan + math.pi - self._start[0])
        return self._start[0] + (forwards if abs(forwards) <= abs(backwards) else backwards)

    def _pitch(self, pan: float) -> float:
        """How far the hand points down in the plane of a pan."""
        r = self._rotation
        forward = -math.sin(pan) * r[1] + math.cos(pan) * r[4]
        if math.hypot(forward, r[7]) < 1e-6:  # across the plane: any pitch is as near
            return self._start[1] + self._start[2] + self._start[3]
        return math.atan2(-r[7], forward)

    def _roll(self, pan: float, pitch: float) -> float:
        """The roll that comes nearest to the orientation, the short way from the start, up to the stops."""
        r = self._rotation
        s, c = math.sin(pan), math.cos(pan)
        sp, cp = math.sin(pitch), math.cos(pitch)
        # Entries of Rx(pitch) Rz(-pan) R, which is Ry(roll) if there is nothing across the plane.
        m00, m02 = c * r[0] + s * r[3], c * r[2] + s * r[5]
        m20 = sp * (-s * r[0] + c * r[3]) + cp * r[6]
        m22 = sp * (-s * r[2] + c * r[5]) + cp * r[8]
        roll = math.atan2(m02 - m20, m00 + m22)
        return _clamped(4, self._start[4] + _turned(roll - self._start[4]))


def _planar(lift: float, elbow: float, pitch: float) -> tuple[float, float]:
    """Reach and height of the tip in the arm's plane."""
    upper, fore = _ANGLE_1 - lift, _ANGLE_2 - lift - elbow
    return (
        _L1 * math.cos(upper) + _L2 * math.cos(fore) + _L3 * math.cos(pitch),
        _H + _L1 * math.sin(upper) + _L2 * math.sin(fore) - _L3 * math.sin(pitch),
    )


def _bend(elbow: float) -> float:
    """The angle from the forearm up to the upper arm's direction: 0 is straight, positive is elbow up."""
    return _ANGLE_1 - _ANGLE_2 + elbow


def _two_links(r: float, z: float) -> Iterator[tuple[float, float]]:
    """Lift and elbow that bring the wrist to (r, z) from the lift axis: elbow up, then elbow down."""
    distance = math.hypot(r, z)
    if distance < _EPSILON:
        return
    cosine = (_L1 * _L1 + distance * distance - _L2 * _L2) / (2.0 * _L1 * distance)
    if not -1.0 - _EPSILON <= cosine <= 1.0 + _EPSILON:
        return
    direction, opening = math.atan2(z, r), math.acos(min(1.0, max(-1.0, cosine)))
    for side in (1.0, -1.0):
        upper = direction + side * opening
        fore = math.atan2(z - _L1 * math.sin(upper), r - _L1 * math.cos(upper))
        lift = _turned(_ANGLE_1 - upper)
        yield lift, _turned(_ANGLE_2 - fore - lift)


def _least_squares(
    reach: float, height: float, pitch: float, start: Sequence[float]
) -> tuple[float, float, float]:
    """Lift, elbow and wrist flex nearest to a wish, within the stops (Levenberg-Marquardt, active set)."""
    q = [_clamped(i + 1, start[i]) for i in range(3)]
    damping, cost, errors = 1e-8, math.inf, (0.0, 0.0, 0.0)
    rows: tuple[tuple[float, float, float], ...] = ()
    trial = q
    for _ in range(_ITERATIONS):
        trial_errors, trial_rows = _linearised(reach, height, pitch, trial)
        trial_cost = sum(e * e for e in trial_errors)
        if trial_cost < cost:
            gained = cost - trial_cost
            q, cost, errors, rows = trial, trial_cost, trial_errors, trial_rows
            damping = max(damping * 0.1, 1e-12)
            if gained < 1e-15:
                break
        else:
            damping = max(damping * 10.0, 1e-5)
            if damping > 10.0:
                break
        trial = _step(q, errors, rows, damping)
        if max(abs(a - b) for a, b in zip(trial, q, strict=True)) < 1e-10:
            break
    return q[0], q[1], q[2]


def _linearised(
    reach: float, height: float, pitch: float, q: Sequence[float]
) -> tuple[tuple[float, float, float], tuple[tuple[float, float, float], ...]]:
    """What is missing (reach, height, weighted pitch), and its derivatives by the three joints."""
    lift, elbow, wrist = q
    p = lift + elbow + wrist
    upper, fore = _ANGLE_1 - lift, _ANGLE_2 - lift - elbow
    s1, c1 = _L1 * math.sin(upper), _L1 * math.cos(upper)
    s2, c2 = _L2 * math.sin(fore), _L2 * math.cos(fore)
    s3, c3 = _L3 * math.sin(p), _L3 * math.cos(p)
    errors = (
        reach - (c1 + c2 + c3),
        height - (_H + s1 + s2 - s3),
        _PITCH_WEIGHT_M * _turned(pitch - p),
    )
    w = _PITCH_WEIGHT_M
    return errors, ((s1 + s2 - s3, s2 - s3, -s3), (-c1 - c2 - c3, -c2 - c3, -c3), (w, w, w))


def _step(
    q: Sequence[float],
    errors: tuple[float, float, float],
    rows: tuple[tuple[float, float, float], ...],
    damping: float,
) -> list[float]:
    """One damped step; joints at a stop that would be pushed further stay there."""
    gradient = [sum(rows[k][i] * errors[k] for k in range(3)) for i in range(3)]
    free = [
        i
        for i in range(3)
        if not (q[i] <= _LOWER[i + 1] and gradient[i] < 0.0)
        and not (q[i] >= _UPPER[i + 1] and gradient[i] > 0.0)
    ]
    change = _solved(_curvature(free, errors, rows, damping, full=True), [gradient[i] for i in free])
    if change is None:  # not convex here: without the second derivatives it always is
        change = _solved(_curvature(free, errors, rows, damping, full=False), [gradient[i] for i in free])
    moved = list(q)
    for i, by in zip(free, change or [], strict=True):
        moved[i] = _clamped(i + 1, q[i] + min(0.5, max(-0.5, by)))
    return moved


def _curvature(
    free: list[int],
    errors: tuple[float, float, float],
    rows: tuple[tuple[float, float, float], ...],
    damping: float,
    *,
    full: bool,
) -> list[list[float]]:
    """The second derivatives of half the squared errors, damped.

    The second derivatives of reach and height are their own first ones in the other row: a chain's links turn
    together from the joint nearer to the hand on. They matter where much of the way cannot be had.
    """
    e_r, e_z = (errors[0], errors[1]) if full else (0.0, 0.0)
    return [
        [
            rows[0][i] * rows[0][j]
            + rows[1][i] * rows[1][j]
            + rows[2][i] * rows[2][j]
            - e_r * rows[1][max(i, j)]
            + e_z * rows[0][max(i, j)]
            + (damping if i == j else 0.0)
            for j in free
        ]
        for i in free
    ]


def _solved(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    """The solution of up to three equations (elimination in place); None if not positive definite."""
    n = len(right)
    for i in range(n):
        if matrix[i][i] <= 1e-12:
            return None
        for k in range(i + 1, n):
            factor = matrix[k][i] / matrix[i][i]
            for j in range(i, n):
                matrix[k][j] -= factor * matrix[i][j]
            right[k] -= factor * right[i]
    for i in reversed(range(n)):
        right[i] = (right[i] - sum(matrix[i][j] * right[j] for j in range(i + 1, n))) / matrix[i][i]
    return right


def _turned(angle: float) -> float:
    """The same direction within [-π, π]."""
    return math.remainder(angle, math.tau)


def _within(index: int, angle: float) -> bool:
    return _LOWER[index] - _EPSILON <= angle <= _UPPER[index] + _EPSILON


def _clamped(index: int, angle: float) -> float:
    return min(max(angle, _LOWER[index]), _UPPER[index])
