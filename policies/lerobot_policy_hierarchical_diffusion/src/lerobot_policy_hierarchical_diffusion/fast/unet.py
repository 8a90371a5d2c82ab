# SPDX-License-Identifier: Apache-2.0
"""LeRobot's temporal U-Net for a chain of steps: FiLM once per chunk, short convolutions as matrix products.

At batch size 1 a level of the U-Net has 16, 8 or 4 frames, and its convolutions wait for their weights.
PyTorch's CPU convolution lays the weights out anew at every call; a matrix product on them as they lie does
not (measured: `benchmarks/inference_speed.py`). Where a convolution has many rows to work on it is the faster
one, and is kept.

Legend: `B` batch, `K` denoising steps, `T` frames of a level, `H` chunk length, `A` action width, `C`
condition width, `D` channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEW_ROWS = 8
_SOME_ROWS = 32
_MANY_WEIGHTS = 2**22
"""A convolution becomes a matrix product up to `_FEW_ROWS` output frames in a batch, or up to `_SOME_ROWS`
if it has at least `_MANY_WEIGHTS`: where that was faster on the CPUs it was measured on."""


def plain_types() -> frozenset[type[nn.Module]]:
    """What a U-Net denoiser is made of."""
    from lerobot.policies.diffusion import modeling_diffusion as stock

    from ..denoiser import UNetDenoiser

    theirs = {
        stock.DiffusionConditionalUnet1d,
        stock.DiffusionConditionalResidualBlock1d,
        stock.DiffusionConv1dBlock,
        stock.DiffusionSinusoidalPosEmb,
    }
    torchs = {nn.Conv1d, nn.ConvTranspose1d, nn.GroupNorm, nn.Mish, nn.Linear, nn.Identity}
    return frozenset({UNetDenoiser, nn.Sequential, nn.ModuleList} | theirs | torchs)


def short_conv1d(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """`conv(x)`, as one matrix product where that is faster.

    Args:
        conv (`nn.Conv1d`): Without dilation or groups, zero padding.
        x (`Tensor`): (B, D, T).

    Returns:
        `Tensor`: (B, D', T').
    """
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    assert isinstance(padding, int)  # a word, like "same", stands for itself in its first letter
    frames = (x.shape[-1] + 2 * padding - kernel) // stride + 1
    rows = len(x) * frames
    if not _pays(rows, conv.weight):
        return conv(x)  # type: ignore[no-any-return]
    columns = F.pad(x, (padding, padding)).unfold(-1, kernel, stride)  # (B, D, T', kernel)
    columns = columns.transpose(1, 2).reshape(rows, -1)  # as the weights lie: channel, then tap
    out = F.linear(columns, conv.weight.flatten(1), conv.bias)
    return out.view(len(x), frames, -1).transpose(1, 2)


def _pays(rows: int, weight: Tensor) -> bool:
    if weight.device.type != "cpu":
        return False
    return rows <= _FEW_ROWS or (rows <= _SOME_ROWS and weight.numel() >= _MANY_WEIGHTS)


class FastUNet:
    """A `DiffusionConditionalUnet1d` under one condition.

    Args:
        unet (`DiffusionConditionalUnet1d`): LeRobot's module.
        condition (`Tensor`): (B, C).
    """

    def __init__(self, unet: Any, condition: Tensor) -> None:
        self._unet = unet
        self._blocks = [
            block for level in (*unet.down_modules, unet.mid_modules, *unet.up_modules) for block in level[:2]
        ]
        activated = F.mish(condition)
        width = condition.shape[-1]
        self._conditioned = []  # (B, D or 2 D) for each block
        for block in self._blocks:
            linear = block.cond_encoder[1]
            self._conditioned.append(F.linear(activated, linear.weight[:, -width:], linear.bias))
        self._width = width

    def over(self, timesteps: Tensor) -> Callable[[Tensor, int], Tensor]:
        """Prepare for `timesteps` (K,); see `Conditioned.over`."""
        activated = F.mish(self._unet.diffusion_step_encoder(timesteps))  # (K, E)
        films = []
        for block, conditioned in zip(self._blocks, self._conditioned, strict=True):
            timed = F.linear(activated, block.cond_encoder[1].weight[:, : -self._width])
            films.append((timed[:, None] + conditioned).unsqueeze(-1))  # (K, B, D or 2 D, 1)

        def predict(noisy: Tensor, step: int) -> Tensor:
            return self._step(noisy, [film[step] for film in films])

        return predict

    def _step(self, noisy: Tensor, films: list[Tensor]) -> Tensor:
        """The U-Net with the FiLM parameters of each block, in the order of the blocks."""
        unet = self._unet
        modulated = iter(films)
        x = noisy.transpose(1, 2)  # (B, A, H)
        skips = []
        for first, second, downsample in unet.down_modules:
            x = _block(second, _block(first, x, next(modulated)), next(modulated))
            skips.append(x)
            x = short_conv1d(downsample, x) if isinstance(downsample, nn.Conv1d) else downsample(x)
        for middle in unet.mid_modules:
            x = _block(middle, x, next(modulated))
        for first, second, upsample in unet.up_modules:
            x = torch.cat((x, skips.pop()), dim=1)
            x = upsample(_block(second, _block(first, x, next(modulated)), next(modulated)))
        last, project = unet.final_conv
        return short_conv1d(project, _conv_block(last, x)).transpose(1, 2)


def _block(block: Any, x: Tensor, film: Tensor) -> Tensor:
    """A residual block with its FiLM parameters (B, D or 2 D, 1)."""
    out = _conv_block(block.conv1, x)
    if block.use_film_scale_modulation:
        scale, shift = film.chunk(2, dim=1)
        out = torch.addcmul(shift, scale, out)
    else:
        out = out + film
    out = _conv_block(block.conv2, out)
    residual = block.residual_conv
    return out + (short_conv1d(residual, x) if isinstance(residual, nn.Conv1d) else x)


def _conv_block(module: Any, x: Tensor) -> Tensor:
    """Convolution, group norm, Mish."""
    conv, norm, _ = module.block
    return F.mish(norm(short_conv1d(conv, x)))
