# SPDX-License-Identifier: Apache-2.0
"""Target networks: copies that follow slowly, parameters and buffers alike.

Call `soft_update` in the policy's `update()`, which LeRobot calls after each optimizer step. Under DDP every
process holds equal weights then and may call it on its own; under FSDP all processes call it together.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from .shards import cut_alike, in_pieces


def make_target[ModuleT: nn.Module](source: ModuleT) -> ModuleT:
    """A copy of `source` that is not trained.

    Its weights are at least float32: in half precision a step of 0.005 towards a neighbour rounds to no step.
    """
    target = deepcopy(source).requires_grad_(False)
    for tensor in [*target.parameters(), *target.buffers()]:
        if tensor.dtype in (torch.float16, torch.bfloat16):
            tensor.data = tensor.data.float()
    return target


@torch.no_grad()
def soft_update(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move `target` towards `source`: `target += rate · (source - target)`.

    Buffers of floating point numbers move too (the running statistics of a batch norm would otherwise stay
    those of the first step); counters and flags are copied.

    Args:
        target (`nn.Module`): From `make_target`; changed in place.
        source (`nn.Module`): The network in training.
        rate (`float`): τ in [0, 1]; 1 copies.

    Raises:
        ValueError: If `rate` is none, or the modules differ in structure.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"the rate of a target network ({rate}) must lie in [0, 1].")
    # Apart: under FSDP2 parameters are distributed tensors and buffers are not.
    for kind in ("parameters", "buffers"):
        pairs = _pairs(target, source, kind)
        for old, new in pairs:
            if not old.is_floating_point():
                old.copy_(new)
        moving = [(old, new) for old, new in pairs if old.is_floating_point()]
        olds, news = [old for old, _ in moving], [new.to(old.dtype) for old, new in moving]
        if kind == "parameters" and in_pieces(target.parameters()):
            news = cut_alike(olds, news)
        if olds:
            torch._foreach_lerp_(olds, news, rate)


def _pairs(target: nn.Module, source: nn.Module, kind: str) -> list[tuple[Tensor, Tensor]]:
    olds, news = (dict(getattr(module, f"named_{kind}")()) for module in (target, source))
    if olds.keys() != news.keys():
        different = sorted(olds.keys() ^ news.keys())
        raise ValueError(f"the target network differs from its source in the {kind} {different[:5]}.")
    return [(olds[name].data, news[name].data) for name in olds]
