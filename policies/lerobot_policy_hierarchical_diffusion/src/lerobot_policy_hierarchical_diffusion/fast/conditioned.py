# SPDX-License-Identifier: Apache-2.0
"""A denoiser under one condition: what does not change between denoising steps is computed once per chunk.

In both denoisers timestep and condition meet in a linear map of `[f(timestep) ; g(condition)]`, which is a
map of the one plus a map of the other. The condition's part is computed once for a chunk, the timesteps' part
for all steps in one matrix product: the weights are read once instead of once a step, and that is what a
step at batch size 1 waits for.

Legend: `B` batch, `K` denoising steps, `H` chunk length, `A` action width, `C` condition width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from . import mlp, unet
from .plain import is_plain

Predict = Callable[[Tensor, int], Tensor]
"""Noisy chunk (B, H, A) and number of the step, from 0, to the prediction (B, H, A)."""


class Conditioned:
    """A denoiser with its condition: `denoise(noisy (B, H, A), timestep (B,)) -> (B, H, A)`.

    `over` gives the fast form of the same function for timesteps that are known in advance. A denoiser that
    is not as this package built it (adapters, hooks, sharded or quantised weights) is called as it is.

    Args:
        denoiser (`nn.Module`): `denoiser(noisy, timestep, condition)`.
        condition (`Tensor`): (B, C).
    """

    def __init__(self, denoiser: nn.Module, condition: Tensor) -> None:
        self._denoiser = denoiser
        self._condition = condition
        self._fast: mlp.FastMLP | unet.FastUNet | None = None
        if is_plain(denoiser, mlp.plain_types()):
            self._fast = mlp.FastMLP(denoiser, condition)  # type: ignore[arg-type]
        elif is_plain(denoiser, unet.plain_types()):
            self._fast = unet.FastUNet(denoiser.unet, condition)  # type: ignore[arg-type]

    @property
    def is_fast(self) -> bool:
        """Whether `over` computes less than calling the denoiser would."""
        return self._fast is not None

    def __call__(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """Predict as the denoiser does."""
        predicted: Tensor = self._denoiser(noisy, timestep, self._condition)
        return predicted

    def over(self, timesteps: Sequence[int]) -> Predict:
        """The function of the noisy chunk and of a step's number among `timesteps`."""
        if self._fast is not None:
            return self._fast.over(_as_tensor(timesteps, self._condition))
        every = _as_tensor(timesteps, self._condition)[:, None].expand(-1, len(self._condition))
        return lambda noisy, step: self(noisy, every[step])


def _as_tensor(timesteps: Sequence[int], condition: Tensor) -> Tensor:
    """(K,) long, on the condition's device."""
    return torch.tensor(list(timesteps), dtype=torch.long, device=condition.device)
