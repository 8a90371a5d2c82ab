# SPDX-License-Identifier: Apache-2.0
"""Counts the bytes of the tensors that live, by the submodule that made them; works with fake tensors too.

A storage is counted once, however many tensors look at it, and until nothing looks at it any more. What a
kernel allocates and frees inside is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Follows what operations make.

    Args:
        policy (`nn.Module`): Whose submodules are charged.
    """

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.now = 0
        self.peak = 0
        self._policy = policy
        self._running: list[str] = []
        # By id of the storage; the reference keeps the entry until the storage goes.
        self._entries: dict[int, tuple[weakref.ref[Any], int, str]] = {}
        self._known: set[int] = set()
        self._kept: list[Any] = []

    def ignore(self, tensors: Any) -> None:
        """Do not count the storages of these tensors: they were there before, and stay."""
        kept = [tensor.untyped_storage() for tensor in tree_iter(tensors) if _is_plain(tensor)]
        self._kept += kept  # an id is only theirs while they are held
        self._known |= {id(storage) for storage in kept}

    def by_module(self) -> dict[str, int]:
        """Bytes that live now, by the name of the innermost submodule that made them (`""`: the policy)."""
        found: dict[str, int] = {}
        for _, size, name in self._entries.values():
            found[name] = found.get(name, 0) + size
        return found

    def restart_peak(self) -> None:
        """Forget the peak: from now on it is what lives now, or more."""
        self.peak = self.now

    @contextmanager
    def watching(self) -> Iterator[LiveBytes]:
        """Count, for a while."""
        with ExitStack() as stack:
            for name, module in self._policy.named_modules():
                if name:
                    stack.callback(module.register_forward_pre_hook(self._entering(name)).remove)
                    stack.callback(module.register_forward_hook(self._leaving(name), always_call=True).remove)
            stack.enter_context(self)
            yield self

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if _is_plain(tensor):
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._known or key in self._entries:
            return
        size = int(storage.nbytes())
        if size == 0:
            return

        def forget(_: Any) -> None:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self.now -= entry[1]

        name = self._running[-1] if self._running else ""
        self._entries[key] = (weakref.ref(storage, forget), size, name)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _entering(self, name: str) -> Any:
        def hook(_: nn.Module, __: Any) -> None:
            self._running.append(name)

        return hook

    def _leaving(self, name: str) -> Any:
        def hook(_: nn.Module, __: Any, ___: Any) -> None:
            # A module whose forward is called past its hooks may leave out of turn.
            while self._running and self._running.pop() != name:
                pass

        return hook


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor with a storage of its own."""
    return isinstance(value, torch.Tensor) and value.layout is torch.strided
