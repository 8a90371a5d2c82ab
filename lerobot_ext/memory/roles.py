# SPDX-License-Identifier: Apache-2.0
"""Which part of a policy is trained, frozen, an average of another part, or a target network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from torch import Tensor, nn

TARGET: Final = "target"
EMA: Final = "ema"
_NAMES: Final = {
    "target": TARGET,
    "ema": EMA,
    "average": EMA,
    "averaged": EMA,
    "avg": EMA,
    "slow": EMA,
    "shadow": EMA,
}


def copies(policy: nn.Module) -> dict[str, str]:
    """The submodules that hold a copy of another one's weights, as `target` or `ema`, by name.

    A copy is not trained, has parameters of the same names and shapes as a part that is, and says in its name
    what it is: `critic_target`, `ema_network`, `average`.
    """
    trained = {
        _shapes(module)
        for _, module in policy.named_modules()
        if any(parameter.requires_grad for parameter in module.parameters())
    }
    found: dict[str, str] = {}
    for name, module in policy.named_modules():
        if not name or within(name, found):
            continue
        role = next((_NAMES[word] for word in name.rpartition(".")[2].split("_") if word in _NAMES), None)
        parameters = list(module.parameters())
        frozen = parameters and not any(parameter.requires_grad for parameter in parameters)
        if role and frozen and _shapes(module) in trained:
            found[name] = role
    return found


def within(name: str, places: Iterable[str]) -> str:
    """The place that a dotted name is, or lies in; empty when none is."""
    return next((place for place in places if name == place or name.startswith(f"{place}.")), "")


def nbytes(tensor: Tensor) -> int:
    """Bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()


def _shapes(module: nn.Module) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset((name, tuple(parameter.shape)) for name, parameter in module.named_parameters())
