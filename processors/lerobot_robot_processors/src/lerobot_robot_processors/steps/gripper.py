# SPDX-License-Identifier: Apache-2.0
"""A gripper that is open or closed: labels 1 and 0 to learn from, and values to send."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lerobot.configs.types import PipelineFeatureType
from lerobot.processor import ProcessorStepRegistry, TransitionKey
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from lerobot_robot_processors.configured import (
    ConfiguredStep,
    Features,
    Transition,
    is_number,
    require,
)

_PLACES = {"action": (TransitionKey.ACTION, ACTION), "observation": (TransitionKey.OBSERVATION, OBS_STATE)}


@dataclass
class _GripperFields(ConfiguredStep):
    """The fields of both directions, and how a gripper's number is found and replaced."""

    part: str = "action"
    name: str = "gripper.pos"
    index: int = -1
    hysteresis: float = 0.0
    open_value: float = 100.0
    closed_value: float = 0.0
    _held: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        require("part", self.part, self.part in _PLACES, "action or observation")
        require("name", self.name, isinstance(self.name, str) and bool(self.name), "a robot's name of it")
        whole = isinstance(self.index, int) and not isinstance(self.index, bool)
        require("index", self.index, whole, "the gripper's place in the tensor; -1 is the last")
        band = is_number(self.hysteresis) and self.hysteresis >= 0
        require("hysteresis", self.hysteresis, band, "0 or more")
        values = is_number(self.open_value) and is_number(self.closed_value)
        apart = values and self.open_value != self.closed_value
        require(
            "open_value, closed_value", (self.open_value, self.closed_value), apart, "two different numbers"
        )

    def reset(self) -> None:
        """Forget what the gripper was."""
        self._held = None

    def transform_features(self, features: Features) -> Features:
        """Unchanged: the number keeps its place.

        Raises:
            ValueError: `index` is no place of the tensor.
        """
        _, name = _PLACES[self.part]
        kind = PipelineFeatureType.ACTION if self.part == "action" else PipelineFeatureType.OBSERVATION
        shape = getattr(features.get(kind, {}).get(name), "shape", None)
        if shape:
            self._check_index(shape[-1])
        return features

    def __call__(self, transition: Transition) -> Transition:
        """The transition with the gripper's number replaced; a transition without an action passes."""
        key, name = _PLACES[self.part]
        values = transition.get(key)
        if values is None and self.part == "action":
            return transition
        if isinstance(values, Tensor):
            return {**transition, key: self._in_tensor(values)}
        if not isinstance(values, Mapping):
            raise ValueError(f"the gripper step works on the {self.part}, and the transition has none.")
        if self.part == "observation" and name in values:
            return {**transition, key: {**values, name: self._in_tensor(values[name])}}
        if self.name not in values:
            raise KeyError(
                f"the {self.part} has no `{self.name}`"
                + (f", nor `{OBS_STATE}`" if self.part == "observation" else "")
                + f"; it has {', '.join(f'`{key}`' for key in values) or 'nothing'}. Correct `name`."
            )
        return {**transition, key: {**values, self.name: self._next_number(float(values[self.name]))}}

    def _in_tensor(self, values: Tensor) -> Tensor:
        """`values` (A,), (B, A) or (B, T, A) with the gripper's column decided, over time with hysteresis."""
        self._check_index(values.shape[-1])
        changed = values.clone()
        column = values[..., self.index]
        changed[..., self.index] = self._over_time(column) if values.ndim >= 3 else self._single(column)
        return changed

    def _over_time(self, column: Tensor) -> Tensor:
        """(B, T): each moment's decision is the next one's past."""
        past: Tensor | None = None
        decided = []
        for moment in column.unbind(-1):
            past = self._decided(moment, past)
            decided.append(past)
        return self._as_values(torch.stack(decided, dim=-1), column)

    def _single(self, column: Tensor) -> Tensor:
        return self._as_values(self._decided(column, None), column)

    def _next_number(self, value: float) -> float:
        if value != value:
            raise ValueError(f"`{self.name}` of the {self.part} is NaN; a gripper needs a number.")
        # The rule of `_decided`, on one number and without torch: a tenth of the time.
        height = (value - self._middle) * self._direction
        edge = 0.0
        if isinstance(self._held, bool):
            edge = -self.hysteresis if self._held else self.hysteresis
        self._held = height >= edge
        return float(self._outputs[0 if self._held else 1])

    def _decided(self, values: Tensor, past: Tensor | None) -> Tensor:
        """Whether open, as booleans: inside the band it stays what it was."""
        middle = self._middle
        # The band runs along the direction in which the gripper opens.
        height = (values - middle) * self._direction
        if past is None:
            return height >= 0
        return torch.where(past, height >= -self.hysteresis, height >= self.hysteresis)

    def _as_values(self, is_open: Tensor, given: Tensor) -> Tensor:
        """The decision as numbers like `given`; a NaN stays one, so that nobody takes it for closed."""
        opened, closed = self._outputs
        numbers = torch.where(is_open, given.new_tensor(opened), given.new_tensor(closed))
        return torch.where(torch.isnan(given), given, numbers)

    @property
    def _middle(self) -> float:
        raise NotImplementedError

    @property
    def _direction(self) -> float:
        raise NotImplementedError

    @property
    def _outputs(self) -> tuple[float, float]:
        raise NotImplementedError

    def _check_index(self, width: int) -> None:
        inside = -width <= self.index < width
        require("index", self.index, inside, f"a place of {width} numbers")


@ProcessorStepRegistry.register("lerobot_ext_gripper_binary")
@dataclass
class GripperBinaryStep(_GripperFields):
    """Replace the gripper's value by 1, open, or 0, closed.

    Hysteresis needs an order in time: a robot's calls have one, as has the axis T of (B, T, A). The rows of a
    batch (B, A) have none, and are decided by the threshold alone.

    Args:
        part (`str`, *optional*, defaults to `"action"`): Or `observation`, whose tensor is
            `observation.state`.
        name (`str`, *optional*, defaults to `"gripper.pos"`): The robot's name of the value.
        index (`int`, *optional*, defaults to `-1`): Its place in a tensor.
        hysteresis (`float`, *optional*, defaults to `0.0`): How far past the threshold, in the value's unit,
            it has to go to change.
        open_value (`float`, *optional*, defaults to `100.0`): The value of an open gripper.
        closed_value (`float`, *optional*, defaults to `0.0`): That of a closed one; may be the larger.
        threshold (`float`, *optional*): Where closed ends and open begins; None is the middle of the two.

    Raises:
        ValueError: A field is out of range; a robot's value is NaN.
        KeyError: The robot has no value of that name.
    """

    threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = sorted((self.open_value, self.closed_value))
        inside = self.threshold is None or (is_number(self.threshold) and low <= self.threshold <= high)
        require("threshold", self.threshold, inside, f"between {low} and {high}, or none")

    def inverted(self) -> "GripperValueStep":
        """The step that turns labels back into `open_value` and `closed_value`."""
        config = {key: value for key, value in self.get_config().items() if key != "threshold"}
        return GripperValueStep(**{**config, "hysteresis": 0.0})

    @property
    def _middle(self) -> float:
        return (self.open_value + self.closed_value) / 2 if self.threshold is None else self.threshold

    @property
    def _direction(self) -> float:
        return 1.0 if self.open_value > self.closed_value else -1.0

    @property
    def _outputs(self) -> tuple[float, float]:
        return 1.0, 0.0


@ProcessorStepRegistry.register("lerobot_ext_gripper_value")
@dataclass
class GripperValueStep(_GripperFields):
    """Turn a policy's gripper, 0 to 1, into `open_value` from 0.5 and `closed_value` below.

    Calls with single actions (B, A) follow each other in time here, so hysteresis reaches from call to call,
    row by row, until `reset()`.

    Args:
        part (`str`, *optional*, defaults to `"action"`): Or `observation`.
        name (`str`, *optional*, defaults to `"gripper.pos"`): The robot's name of the value.
        index (`int`, *optional*, defaults to `-1`): Its place in a tensor.
        hysteresis (`float`, *optional*, defaults to `0.0`): How far past 0.5 it has to go to change, below
            0.5.
        open_value (`float`, *optional*, defaults to `100.0`): What is sent to open.
        closed_value (`float`, *optional*, defaults to `0.0`): What is sent to close.

    Raises:
        ValueError: A field is out of range; a robot's value is NaN.
        KeyError: The robot has no value of that name.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require("hysteresis", self.hysteresis, self.hysteresis < 0.5, "from 0 to below 0.5")

    def _single(self, column: Tensor) -> Tensor:
        past = self._held if isinstance(self._held, Tensor) and self._held.shape == column.shape else None
        self._held = self._decided(column, None if past is None else past.to(column.device))
        return self._as_values(self._held, column)

    @property
    def _middle(self) -> float:
        return 0.5

    @property
    def _direction(self) -> float:
        return 1.0

    @property
    def _outputs(self) -> tuple[float, float]:
        return self.open_value, self.closed_value
