# SPDX-License-Identifier: Apache-2.0
"""Smooth a robot's commands: exponential average, and the One-Euro filter."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lerobot.processor import ActionProcessorStep, ProcessorStepRegistry
from numpy.typing import NDArray

from ..configured import init_fields
from ..joint_values import read_joints
from ..motion.filters import ExponentialFilter, OneEuroFilter, Unwrap
from ..motion.settings import (
    for_joint,
    require_choice,
    require_known,
    require_per_joint,
    require_positive,
)
from ..motion.streams import not_finite, over_time, require_same_streams

FloatArray = NDArray[np.float64]


@dataclass
class _Smoothing(ActionProcessorStep):
    """What both filters share: streams, joints left out, angles that wrap, values that are not finite.

    Args:
        skip (`list[str]`): Joints that pass unchanged, such as a gripper.
        wrap (`dict[str, float]`): A whole turn by joint, in its units (360 for degrees, 200 for LeRobot's
            -100..100 of a full-turn joint): the shorter way round is taken, and results lie within half a
            turn of 0.
        invalid (`str`): A NaN or infinite value is replaced by the last smoothed one (`"hold"`), or an error
            (`"raise"`).
        joint_names (`list[str]`, *optional*): Joints of a tensor's columns.
    """

    skip: list[str] = field(default_factory=list, kw_only=True)
    wrap: dict[str, float] = field(default_factory=dict, kw_only=True)
    invalid: str = field(default="hold", kw_only=True)
    joint_names: list[str] | None = field(default=None, kw_only=True)
    _filter: Any = field(default=None, init=False, repr=False)
    _unwrap: Unwrap | None = field(default=None, init=False, repr=False)
    _last: FloatArray | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        require_choice("invalid", self.invalid, ("hold", "raise"))
        require_per_joint("wrap", self.wrap)

    @abstractmethod
    def _new_filter(self) -> Any:
        """From (B, D) values to smoothed ones."""

    def action(self, action: Any) -> Any:
        """The smoothed command."""
        joints = read_joints(action, self.joint_names)
        require_known("`skip` and `wrap`", {*self.skip, *self.wrap}, joints.names)
        skipped = np.array([name in self.skip for name in joints.names], dtype=bool)

        def frame(values: FloatArray) -> FloatArray:
            smoothed = self._smoothed(joints.names, values, skipped)
            return np.where(skipped, values, smoothed)

        return joints.replaced(over_time(joints.array, frame))

    def _smoothed(self, names: tuple[str, ...], values: FloatArray, skipped: NDArray[np.bool_]) -> FloatArray:
        values = np.where(skipped, 0.0, values)
        if self._last is not None:
            require_same_streams(len(self._last), len(values))
        finite = np.isfinite(values)
        if not finite.all():
            if self.invalid == "raise" or self._last is None:
                remedy = " and is the first." if self._last is None else '; "hold" would repeat the last.'
                raise ValueError(
                    f"The command for {not_finite(names, values)} is not finite ({values.tolist()}){remedy}"
                )
            values = np.where(finite, values, self._last)
        if self._filter is None or self._unwrap is None:
            self._filter = self._new_filter()
            self._unwrap = Unwrap(np.array([for_joint(self.wrap, name) for name in names]))
        self._last = self._unwrap.back(self._filter(self._unwrap.continuous(values)))
        return self._last

    def reset(self) -> None:
        """Begin a new episode: the next command passes as it is."""
        self._filter = self._unwrap = self._last = None

    def get_config(self) -> dict[str, Any]:
        """All settings."""
        return init_fields(self)

    def transform_features(self, features: Any) -> Any:
        """Nothing changes."""
        return features


@ProcessorStepRegistry.register("lerobot_ext_ema_smoothing")
@dataclass
class EmaSmoothingStep(_Smoothing):
    """Exponential average of a robot's commands.

    Takes a robot's dict, or tensors (D,), (B, D) for B arms, (B, T, D) for T frames in a row. `reset()`
    forgets.

    Args:
        alpha (`float`, *optional*, defaults to `0.5`): Weight of the new command, in (0, 1]; 1 changes
            nothing.
        skip (`list[str]`, *optional*): Joints that pass unchanged, such as a gripper.
        wrap (`dict[str, float]`, *optional*): A whole turn by joint, in its units: the shorter way round is
            taken, and results lie within half a turn of 0.
        invalid (`str`, *optional*, defaults to `"hold"`): A NaN or infinite value is replaced by the last
            smoothed one, or an error (`"raise"`).
        joint_names (`list[str]`, *optional*): Joints of a tensor's columns.

    Raises:
        ValueError: `alpha` is not in (0, 1]; when called: a named joint is not there, or a command is not
            finite.
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if require_positive("alpha", self.alpha) > 1.0:
            raise ValueError(f"`alpha` is {self.alpha}; give a number above 0 and up to 1 (no smoothing).")

    def _new_filter(self) -> ExponentialFilter:
        return ExponentialFilter(self.alpha)


@ProcessorStepRegistry.register("lerobot_ext_one_euro_smoothing")
@dataclass
class OneEuroSmoothingStep(_Smoothing):
    """One-Euro filter on a robot's commands: calm at rest, little lag in motion.

    Tune as its authors say: with `beta` 0 lower `min_cutoff_hz` until the arm at rest does not tremble, then
    raise `beta` until fast motions do not lag. Takes what `EmaSmoothingStep` takes. `reset()` forgets.

    Args:
        fps (`float`, *optional*, defaults to `30.0`): Commands per second.
        min_cutoff_hz (`float`, *optional*, defaults to `1.0`): Cut-off at rest.
        beta (`float`, *optional*, defaults to `0.02`): What the cut-off rises by, in Hz per unit/s.
        derivative_cutoff_hz (`float`, *optional*, defaults to `1.0`): Cut-off of the speed's own filter.
        skip (`list[str]`, *optional*): Joints that pass unchanged, such as a gripper.
        wrap (`dict[str, float]`, *optional*): A whole turn by joint, in its units.
        invalid (`str`, *optional*, defaults to `"hold"`): A NaN or infinite value is replaced by the last
            smoothed one, or an error (`"raise"`).
        joint_names (`list[str]`, *optional*): Joints of a tensor's columns.

    Raises:
        ValueError: A setting is not positive; when called: a named joint is not there, or a command is not
            finite.
    """

    fps: float = 30.0
    min_cutoff_hz: float = 1.0
    beta: float = 0.02
    derivative_cutoff_hz: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("fps", "min_cutoff_hz", "derivative_cutoff_hz"):
            require_positive(name, getattr(self, name))
        require_positive("beta", self.beta, zero=True)

    def _new_filter(self) -> OneEuroFilter:
        return OneEuroFilter(self.fps, self.min_cutoff_hz, self.beta, self.derivative_cutoff_hz)
