# SPDX-License-Identifier: Apache-2.0
"""Weights that FSDP has cut up: a slow copy may be cut elsewhere than what it follows, and norms are of all.

FSDP's first version, which LeRobot's checkpoints are made for, joins the parameters of a wrapped module end
to end and gives each rank a piece, in the order of the ranks. A parameter is then what of it lies in this
rank's piece: all, some, or nothing. Two modules of the same structure that are wrapped by themselves are cut
alike. Of those that share a wrapper (everything that no class name wraps is in the outermost one) the first
may lie with one rank, and its slow copy with another. FSDP2 cuts each parameter by itself and needs nothing
of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed

_MARK = "_fsdp_flattened"
"""What FSDP's first version calls a parameter of its own."""


def in_pieces(parameters: Iterable[Tensor]) -> bool:
    """Whether FSDP's first version holds some of these; the same on every rank."""
    return any(getattr(parameter, _MARK, False) for parameter in parameters)


@torch.no_grad()
def cut_alike(wanted: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """The values of `given` for those places that this rank has of `wanted`; all ranks call it together.

    Args:
        wanted (`Sequence[Tensor]`): This rank's pieces of some parameters.
        given (`Sequence[Tensor]`): Its pieces of the parameters that belong to them.

    Returns:
        `list[Tensor]`: Of the shapes of `wanted`.
    """
    if not wanted:
        return []
    ranks, rank = distributed.get_world_size(), distributed.get_rank()
    mine = torch.tensor(
        [[one.numel(), other.numel()] for one, other in zip(wanted, given, strict=True)],
        device=wanted[0].device,
    )
    everyone = _gathered(mine, ranks).cpu()  # (ranks, parameters, 2)
    apart = (everyone[..., 0] != everyone[..., 1]).any(0).nonzero().flatten().tolist()
    made = list(given)
    if not apart:
        return made
    lengths = everyone[:, apart, 1]
    pieces = torch.cat([given[place].flatten().to(wanted[place].dtype) for place in apart])
    longest = int(lengths.sum(1).max())
    joined = _gathered(torch.nn.functional.pad(pieces, (0, longest - len(pieces))), ranks)
    of_rank = [
        torch.split(joined[number, : int(lengths[number].sum())], lengths[number].tolist())
        for number in range(ranks)
    ]
    for number, place in enumerate(apart):
        whole = torch.cat([parts[number] for parts in of_rank])
        start = int(everyone[:rank, place, 0].sum())
        made[place] = whole[start : start + wanted[place].numel()].view_as(wanted[place])
    return made


def clip_pieces(parameters: Sequence[Tensor], largest: float) -> None:
    """Clip the gradient of parameters that are cut up by its norm over all ranks, which call it together."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = (
        torch.stack([gradient.float().square().sum() for gradient in gradients]).sum() if gradients else 0
    )
    total = torch.as_tensor(squares, dtype=torch.float32, device=parameters[0].device).clone()
    distributed.all_reduce(total)
    share = (largest / (total.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(share.to(gradient.dtype))


def _gathered(value: Tensor, ranks: int) -> Tensor:
    """(ranks, ...) of a tensor that has the same shape on each."""
    places = [torch.empty_like(value) for _ in range(ranks)]
    distributed.all_gather(places, value.contiguous())
    return torch.stack(places)
