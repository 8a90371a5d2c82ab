# SPDX-License-Identifier: Apache-2.0
"""Ensembles of networks in one batched call, how their members are read together, and what each one sees.

Legend: `B` batch, `D` feature, `E` ensemble member.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AGGREGATIONS = ("mean", "min", "mean_std", "mix")


class EnsembleLinear(nn.Module):
    """`E` linear maps, each initialised as `nn.Linear` is.

    Args:
        members (`int`): E.
        inputs (`int`): Width of the input.
        outputs (`int`): Width of the output.
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (B, D), the same for all members, or (E, B, D); returns (E, B, outputs)."""
        if x.ndim == 2:
            members, inputs, outputs = self.weight.shape
            # One matrix product with the members side by side: their input is read once.
            flat = x @ self.weight.transpose(0, 1).reshape(inputs, members * outputs)
            return flat.view(len(x), members, outputs).transpose(0, 1) + self.bias
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleLayerNorm(nn.Module):
    """Layer normalisation with a scale and a shift for each member."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (E, B, width) over its last dimension."""
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.weight)


class EnsembleMLP(nn.Module):
    """`E` multilayer perceptrons in one batched call: linear, layer norm, GELU, and a linear output.

    Args:
        members (`int`): E, at least 1.
        inputs (`int`): Width of the input.
        hidden (`Sequence[int]`): Widths of the hidden layers.
        outputs (`int`, *optional*, defaults to `1`): Width of the output; 1 is left out of the shape.
        layer_norm (`bool`, *optional*, defaults to `True`): Normalise each hidden layer, which keeps the
            values of actions that the data does not hold from growing (RLPD, Ball et al., 2023).

    Raises:
        ValueError: If there is no member.
    """

    def __init__(
        self, members: int, inputs: int, hidden: Sequence[int], outputs: int = 1, *, layer_norm: bool = True
    ) -> None:
        super().__init__()
        if members < 1:
            raise ValueError(f"`members` ({members}) must be at least 1.")
        self.members = members
        self.outputs = outputs
        layers: list[nn.Module] = []
        width = inputs
        for size in hidden:
            layers.append(EnsembleLinear(members, width, size))
            if layer_norm:
                layers.append(EnsembleLayerNorm(members, size))
            layers.append(nn.GELU())
            width = size
        layers.append(EnsembleLinear(members, width, outputs))
        self.layers = nn.Sequential(*layers)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Evaluate all members.

        Args:
            *inputs (`Tensor`): (B, D) each, or (E, B, D) where members see different things; joined along
                the last dimension.

        Returns:
            `Tensor`: (E, B), or (E, B, outputs) for more than one output.
        """
        if any(x.ndim == 3 for x in inputs):
            inputs = tuple(x if x.ndim == 3 else x.expand(self.members, *x.shape) for x in inputs)
        values: Tensor = self.layers(torch.cat(inputs, dim=-1))
        return values.squeeze(-1) if self.outputs == 1 else values


def aggregate(values: Tensor, how: str, *, pessimism: float = 1.0) -> Tensor:
    """One value from an ensemble's.

    Args:
        values (`Tensor`): (E, B).
        how (`str`): `"mean"`; `"min"`; `"mean_std"`, the mean minus `pessimism` standard deviations;
            or `"mix"`, `pessimism` parts of the smallest and the rest of the largest (LAPO, BCQ).
        pessimism (`float`, *optional*, defaults to `1.0`): See `how`.

    Returns:
        `Tensor`: (B,).

    Raises:
        ValueError: If `how` is unknown.
    """
    if how == "mean":
        return values.mean(0)
    if how == "min":
        return values.amin(0)
    if how == "mean_std":
        return values.mean(0) - pessimism * values.std(0, correction=0)
    if how == "mix":
        return pessimism * values.amin(0) + (1 - pessimism) * values.amax(0)
    raise ValueError(f"`how` ({how!r}) is unknown; choose one of {', '.join(AGGREGATIONS)}.")


def bootstrap_masks(index: Tensor, members: int, probability: float, seed: int = 0) -> Tensor:
    """Which members of an ensemble learn from which frames, alike in every process and after a resume.

    Members that see the same data agree where they should not. Each frame is given to each member with
    `probability`, decided by a hash of its number.

    Args:
        index (`Tensor`): (B,) the frame's number in the dataset, LeRobot's `index`.
        members (`int`): E.
        probability (`float`): Share of the frames that a member sees, in (0, 1]; 1 gives all to all.
        seed (`int`, *optional*, defaults to `0`): Another seed, another choice.

    Returns:
        `Tensor`: (E, B) bool.

    Raises:
        ValueError: If `probability` is none, or above 1.
    """
    if not 0.0 < probability <= 1.0:
        raise ValueError(f"`probability` ({probability}) must lie in (0, 1]; a member has to see something.")
    keys = torch.arange(members, device=index.device, dtype=torch.int64)[:, None] + seed * 0x1000003
    mixed = _splitmix(_splitmix(index.to(torch.int64)[None]) ^ _splitmix(keys))
    return ((mixed >> 11) & ((1 << 53) - 1)) < int(probability * (1 << 53))


def _signed(number: int) -> int:
    """A 64-bit pattern as torch's int64 holds it."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _splitmix(x: Tensor) -> Tensor:
    """SplitMix64 (Steele, Lea, Flood, 2014) on int64, whose products wrap around."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right without the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
