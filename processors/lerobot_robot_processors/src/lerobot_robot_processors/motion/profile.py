# SPDX-License-Identifier: Apache-2.0
"""One joint's command, held within position, velocity, acceleration and jerk, and always able to stop.

Everything is counted in frames: with positions x[k], v[k] = x[k] - x[k-1], a[k] = v[k] - v[k-1] and
j[k] = a[k] - a[k-1] are the differences that anybody can take of the commands that were sent, and those are
what is bounded. Bounding them one by one is not enough: a command that obeys all four at a stop's edge leaves
none that does in the next frame. So each state keeps a *stopping plan*, the fastest way to rest, and a
command is only accepted if the plan from there keeps every bound to its end. The first frame of an accepted
plan is always a command that may be sent: whatever comes in, there is a way on.

The plan. Let `releasing` be: the acceleration goes to zero by at most J a frame. From acceleration y the
speed then still changes by R(y); with y = (m + f) J, 0 <= f < 1, R(y) = J m ((m - 1) / 2 + f). Choosing y in
this frame and releasing from then on changes the speed by F(y) = y + R(y), which is piecewise linear and has
a closed inverse. The fastest stop is: take y = F⁻¹(-v), as near as J and A allow, in each frame. It ends at
rest exactly, in finitely many frames. F⁻¹ also says how large an acceleration may be before the speed must
exceed V while it is released.

A command that is allowed passes unchanged. For any other the frame is chosen that brings the stopping plan's
end closest to the command: as fast as the bounds allow, without running past it.
"""

import math
from dataclasses import dataclass
from typing import Final

# Of the larger of a bound's size and 1: what rounding may add up to along one stopping plan.
_SLACK: Final = 1e-12
_LONGEST_STOP_FRAMES: Final = 100_000
_SEARCH_STEPS: Final = 12


@dataclass(frozen=True)
class FrameBounds:
    """Bounds of one joint per frame; infinite where there is none.

    Args:
        lower (`float`): Lowest position.
        upper (`float`): Highest position.
        velocity (`float`): Largest change of position in a frame.
        acceleration (`float`): Largest change of that change.
        jerk (`float`): Largest change of the latter.
    """

    lower: float = -math.inf
    upper: float = math.inf
    velocity: float = math.inf
    acceleration: float = math.inf
    jerk: float = math.inf

    @property
    def slack(self) -> float:
        """By how much a stopping plan may pass a position bound through rounding."""
        finite = [abs(value) for value in (self.lower, self.upper) if math.isfinite(value)]
        return _SLACK * max([1.0, *finite])


def acceleration_for(change: float, jerk: float) -> float:
    """F⁻¹: the acceleration that, released from the next frame on, changes the speed by `change` in all."""
    if not math.isfinite(jerk) or not math.isfinite(change):
        return change
    steps = abs(change) / jerk
    whole = math.floor((math.sqrt(8.0 * steps + 1.0) - 1.0) / 2.0)
    part = (steps - whole * (whole + 1) / 2.0) / (whole + 1)
    return math.copysign((whole + part) * jerk, change)


class JointProfile:
    """The command of one joint, frame by frame.

    Args:
        bounds (`FrameBounds`): What the commands keep.
        position (`float`): Where the joint rests; a position outside of the bounds counts as the nearest
            inside.
    """

    __slots__ = ("_bounds", "_slack", "acceleration", "position", "velocity")

    def __init__(self, bounds: FrameBounds, position: float) -> None:
        self._bounds = bounds
        self._slack = bounds.slack
        self.position = min(max(position, bounds.lower), bounds.upper)
        self.velocity = 0.0
        self.acceleration = 0.0

    def advance(self, target: float) -> float:
        """The next command: `target` if that is allowed, else what comes nearest to it in time.

        Args:
            target (`float`): The wished position. Without a finite one the joint comes to a stop.

        Returns:
            `float`: The position to command in this frame.
        """
        bounds = self._bounds
        if not math.isfinite(target):
            return self._take(self._stopping(self.velocity, self.acceleration))
        target = min(max(target, bounds.lower), bounds.upper)
        low, high = self._allowed()
        velocity = target - self.position
        acceleration = velocity - self.velocity
        if low <= acceleration <= high and self._plan(acceleration)[0]:
            self.position, self.velocity, self.acceleration = target, velocity, acceleration
            return target
        return self._take(self._towards(target, low, high))

    def _take(self, acceleration: float) -> float:
        bounds = self._bounds
        self.acceleration = acceleration
        self.velocity += acceleration
        self.position = min(max(self.position + self.velocity, bounds.lower), bounds.upper)
        return self.position

    def _allowed(self) -> tuple[float, float]:
        """Accelerations that keep jerk and acceleration, and the speed until they are released."""
        bounds = self._bounds
        low = max(
            self.acceleration - bounds.jerk,
            -bounds.acceleration,
            acceleration_for(-bounds.velocity - self.velocity, bounds.jerk),
        )
        high = min(
            self.acceleration + bounds.jerk,
            bounds.acceleration,
            acceleration_for(bounds.velocity - self.velocity, bounds.jerk),
        )
        return low, high

    def _stopping(self, velocity: float, acceleration: float) -> float:
        """The stopping plan's acceleration in the frame after a state."""
        bounds = self._bounds
        wanted = acceleration_for(-velocity, bounds.jerk)
        low = max(acceleration - bounds.jerk, -bounds.acceleration)
        high = min(acceleration + bounds.jerk, bounds.acceleration)
        return min(max(wanted, low), high)

    def _plan(self, acceleration: float) -> tuple[bool, float]:
        """Whether the stopping plan after a frame keeps the bounds, and where it ends."""
        bounds = self._bounds
        velocity = self.velocity + acceleration
        position = self.position + velocity
        low, high = bounds.lower - self._slack, bounds.upper + self._slack
        inside = low <= position <= high
        # Below this a joint counts as resting: less than what a float64 position can show.
        still = 1e-13 * max(1.0, abs(position))
        frames = 0
        while abs(velocity) > still or abs(acceleration) > still:
            acceleration = self._stopping(velocity, acceleration)
            velocity += acceleration
            position += velocity
            if not low <= position <= high:
                inside = False
            frames += 1
            if frames > _LONGEST_STOP_FRAMES:
                return False, position
        return inside, position

    def _towards(self, target: float, low: float, high: float) -> float:
        """The acceleration whose stopping plan ends nearest to the target, among those that may be taken."""
        plan = self._stopping(self.velocity, self.acceleration)
        if low > high:  # by rounding alone: the plan is what is left
            return plan
        wanted = self._ending_at(target, low, high)
        if self._plan(wanted)[0]:
            return wanted
        # Between the plan, which keeps all bounds, and what was wanted, which does not.
        kept, broken = plan, wanted
        for _ in range(_SEARCH_STEPS):
            middle = (kept + broken) / 2.0
            if self._plan(middle)[0]:
                kept = middle
            else:
                broken = middle
        return kept

    def _ending_at(self, target: float, low: float, high: float) -> float:
        """Where between `low` and `high` the plan ends at the target (regula falsi, Illinois variant)."""
        past_high = self._plan(high)[1] - target
        if past_high <= 0.0:
            return high
        past_low = self._plan(low)[1] - target
        if past_low >= 0.0:
            return low
        near = 1e-12 * max(1.0, abs(target))
        middle, side = low, 0
        for _ in range(_SEARCH_STEPS):
            middle = (low * past_high - high * past_low) / (past_high - past_low)
            past = self._plan(middle)[1] - target
            if abs(past) <= near:
                break
            if past > 0.0:
                high, past_high = middle, past
                past_low *= 0.5 if side == 1 else 1.0
                side = 1
            else:
                low, past_low = middle, past
                past_high *= 0.5 if side == -1 else 1.0
                side = -1
        return middle
