# SPDX-License-Identifier: Apache-2.0
"""What is a function of weights or buffers alone, computed once and kept until they change.

For inference: a plan of a few milliseconds should not spend part of them on the same numbers as the plan
before. Training, tracing and captured graphs always compute.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import Tensor

Fingerprint = tuple[object, ...]


def fingerprint(tensors: Iterable[Tensor]) -> Fingerprint:
    """Where tensors lie and how often they were changed; an inference tensor does not count its changes."""
    return tuple(
        (tensor.data_ptr(), None if tensor.is_inference() else tensor._version, tensor.dtype)
        for tensor in tensors
    )


class Remembered:
    """The last result of one function; a copy of it remembers nothing."""

    def __init__(self) -> None:
        self._of: object = None
        self._result: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Remembered:
        """A copied module has tensors of its own."""
        return Remembered()

    def __reduce__(self) -> tuple[type[Remembered], tuple[()]]:
        """What was computed is not sent to other processes."""
        return Remembered, ()

    def get[T](self, tensors: tuple[Tensor, ...], compute: Callable[[], T], key: Hashable = None) -> T:
        """`compute()`, or what it gave the last time.

        Args:
            tensors (`tuple[Tensor, ...]`): All that it depends on and may change.
            compute (`Callable[[], T]`): Whose result nobody changes in place.
            key (`Hashable`, *optional*): What else it depends on.
        """
        if not _may_remember(tensors):
            return compute()
        now = (key, fingerprint(tensors))
        if now != self._of:
            self._result = compute()
            self._of = now
        found: T = self._result
        return found


def _may_remember(tensors: tuple[Tensor, ...]) -> bool:
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if any(tensor.is_inference() or isinstance(tensor, torch._subclasses.FakeTensor) for tensor in tensors):
        return False
    return not (tensors[0].is_cuda and torch.cuda.is_current_stream_capturing())
