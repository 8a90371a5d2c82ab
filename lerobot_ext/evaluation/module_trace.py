# SPDX-License-Identifier: Apache-2.0
"""Notes what goes into a policy's submodules and what comes out, also of a forward pass that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch

from lerobot_ext.evaluation.batch_stages import Value, describe

_MOST: Final = 4
"""Tensors noted of one call's arguments or results."""


@dataclass
class Call:
    """The first call of a module.

    Args:
        name (`str`): Dotted, as in `policy.named_modules()`.
        type (`str`): Its class.
        depth (`int`): 1 for a direct submodule.
        inputs (`list[Value]`), outputs (`list[Value]`): Its tensors, those of dictionaries and sequences
            included.
        calls (`int`): How often it was called.
        finished (`bool`): Whether the first call came back.
    """

    name: str
    type: str
    depth: int
    inputs: list[Value]
    outputs: list[Value]
    calls: int = 1
    finished: bool = False


class ModuleTrace:
    """The calls of submodules up to a depth, in the order in which they began."""

    def __init__(self, depth: int) -> None:
        self.calls: dict[str, Call] = {}
        self._depth = depth
        self._running: list[str] = []

    @property
    def failed_in(self) -> str:
        """The innermost module that was called and has not come back; empty when all have."""
        return self._running[-1] if self._running else ""

    @contextmanager
    def watching(self, policy: torch.nn.Module) -> Iterator[None]:
        """Hook the submodules for a while."""
        handles = []
        for name, module in policy.named_modules():
            depth = name.count(".") + 1
            if name and depth <= self._depth:
                handles += [
                    module.register_forward_pre_hook(self._entering(name, depth), with_kwargs=True),
                    module.register_forward_hook(self._leaving(name)),
                ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, name: str, depth: int) -> Any:
        def hook(module: torch.nn.Module, words: Any, named: Any) -> None:
            self._running.append(name)
            if name in self.calls:
                self.calls[name].calls += 1
                return
            inputs = [describe(tensor) for tensor in _tensors((words, named))]
            self.calls[name] = Call(name, type(module).__name__, depth, inputs, [])

        return hook

    def _leaving(self, name: str) -> Any:
        def hook(_: torch.nn.Module, __: Any, result: Any) -> None:
            self._running.remove(name)
            call = self.calls[name]
            if not call.finished:
                call.finished = True
                call.outputs = [describe(tensor) for tensor in _tensors(result)]

        return hook


def _tensors(value: Any) -> list[torch.Tensor]:
    """The first few tensors in nested containers."""
    found: list[torch.Tensor] = []
    waiting = [value]
    while waiting and len(found) < _MOST:
        item = waiting.pop(0)
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, dict):
            waiting = [*item.values(), *waiting]
        elif isinstance(item, list | tuple):
            waiting = [*item, *waiting]
    return found
