# SPDX-License-Identifier: Apache-2.0
"""Builds and trains any policy without its memory: PyTorch's fake tensors have a shape and no values.

Code of a policy that asks a tensor for its value (`loss.item()` for the log, say) gets 1 or `True`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.overrides import TorchFunctionMode

NEEDS_VALUES: Final = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)
"""What a policy raises whose shapes or branches depend on values that are not there."""


@contextmanager
def without_memory() -> Iterator[FakeTensorMode]:
    """Within, tensors are fake: making, training and copying modules allocates nothing."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    stock = nn.Module._apply
    nn.Module._apply = _apply  # type: ignore[method-assign]
    try:
        with mode, _Answers():
            yield mode
    finally:
        nn.Module._apply = stock  # type: ignore[method-assign]


class _Answers(TorchFunctionMode):
    """Answers for values that are not there, and copies of fake tensors."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        answer = _ANSWERS.get(func)
        return (answer or func)(*args, **(kwargs or {}))


def _copy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """`copy.deepcopy` of a tensor; stock's shares storages between devices, which a fake one refuses."""
    if id(tensor) not in memo:
        with torch.no_grad():
            new = tensor.detach().clone()
        memo[id(tensor)] = (
            nn.Parameter(new, tensor.requires_grad)
            if isinstance(tensor, nn.Parameter)
            else new.requires_grad_(tensor.requires_grad)
        )
    made: Tensor = memo[id(tensor)]
    return made


def _full(size: Any, value: Any, **named: Any) -> Tensor:
    """`torch.full`, which asks a tensor that it is to fill with for its value: a diffusion step's number."""
    return torch.full(size, 1 if isinstance(value, Tensor) else value, **named)


def _nonzero(tensor: Tensor, *, as_tuple: bool = False) -> Any:
    """`(steps == step).nonzero(as_tuple=True)`, by which a scheduler looks a step up: it is the second one.

    Raises:
        DynamicOutputShapeException: Of another form, that may find any number of places.
    """
    return ([1],) if as_tuple and tensor.ndim == 1 else torch.nonzero(tensor)


def _getitem(tensor: Tensor, place: Any) -> Any:
    """A tensor's row at a place that a tensor says: any is as large."""
    says = isinstance(place, Tensor) and place.ndim == 0 and not place.dtype.is_floating_point
    return tensor[0 if says and place.dtype is not torch.bool else place]


_ANSWERS: dict[Any, Callable[..., Any]] = {
    Tensor.__getitem__: _getitem,
    Tensor.nonzero: _nonzero,
    torch.full: _full,
    Tensor.item: lambda tensor: 1.0 if tensor.dtype.is_floating_point else 1,
    Tensor.tolist: lambda tensor: np.ones(tuple(tensor.shape)).tolist(),
    Tensor.numpy: lambda tensor, **_: np.ones(tuple(tensor.shape)),
    Tensor.__bool__: lambda _: True,
    Tensor.__float__: lambda _: 1.0,
    Tensor.__int__: lambda _: 1,
    Tensor.__index__: lambda _: 1,
    Tensor.__deepcopy__: _copy,
}


def _apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Stock's `Module._apply`, which puts the new values into the old parameter; a fake one refuses that."""
    made: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}  # by id; the old one lives on, so ids stay unique
    for module in self.modules() if recurse else [self]:
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                with torch.no_grad():
                    made[id(parameter)] = parameter, nn.Parameter(fn(parameter), parameter.requires_grad)
            module._parameters[name] = made[id(parameter)][1]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fn(buffer)
    return self
