# SPDX-License-Identifier: Apache-2.0
"""Augmentations of many pictures at once, each sample with its own parameters.

torchvision's transforms draw one set of parameters a call; a batch of 64 would need 64 calls for each
operation. Here one call does all samples. The colour operations are torchvision's (`v2.functional`), equal to
1e-6.

Shapes: `B` samples, `N` pictures of one sample (times, cameras), `C` channels; pictures are (B, N, C, H, W),
floats in [0, 1]; a parameter is (B,), or (B, 1) where it is drawn once a row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R 601, the grey of torchvision and PIL.
_GREY = (0.2989, 0.587, 0.114)


def grey(pictures: Tensor) -> Tensor:
    """The brightness (B, N, 1, H, W) of colours (B, N, 3, H, W)."""
    weights = pictures.new_tensor(_GREY).view(3, 1, 1)
    return (pictures * weights).sum(-3, keepdim=True)


def adjust_brightness(pictures: Tensor, factor: Tensor) -> Tensor:
    """`pictures` times `factor` (B,): 1 changes nothing, 0 is black."""
    return (pictures * _over(factor, pictures)).clamp(0, 1)


def adjust_contrast(pictures: Tensor, factor: Tensor) -> Tensor:
    """Away from, above 1, or towards each picture's mean grey by `factor` (B,)."""
    mean = grey(pictures).mean((-3, -2, -1), keepdim=True)
    return torch.lerp(mean.expand_as(pictures), pictures, _over(factor, pictures)).clamp(0, 1)


def adjust_saturation(pictures: Tensor, factor: Tensor) -> Tensor:
    """Away from, above 1, or towards grey by `factor` (B,)."""
    return torch.lerp(grey(pictures).expand_as(pictures), pictures, _over(factor, pictures)).clamp(0, 1)


def adjust_hue(pictures: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by `turn` (B,), in turns of the colour wheel: 0.5 is the complementary colour."""
    red, green, blue = pictures.unbind(-3)
    top, bottom = pictures.amax(-3), pictures.amin(-3)
    spread = top - bottom
    safe = torch.where(spread > 0, spread, torch.ones_like(spread))
    sector = torch.where(
        top == red,
        (green - blue) / safe,
        torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = sector / 6 + turn.view(-1, 1, 1, 1)
    # Each channel of HSV -> RGB is the same tent, shifted by a third of the wheel.
    shifts = pictures.new_tensor([5.0, 3.0, 1.0]).view(3, 1, 1)
    tent = (shifts + hue.unsqueeze(-3) * 6) % 6
    return top.unsqueeze(-3) - spread.unsqueeze(-3) * torch.minimum(tent, 4 - tent).clamp(0, 1)


def warp(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Move the picture's content by an affine map; what comes in from outside repeats the edge.

    Args:
        pictures (`Tensor`): (B, N, C, H, W).
        matrix (`Tensor`): (B, 2, 3), from a pixel of the result to one of the source, both in [-1, 1] from
            edge to edge, as `torch.nn.functional.affine_grid` takes it.
    """
    batch, number, channels, height, width = pictures.shape
    flat = pictures.reshape(batch, number * channels, height, width)
    grid = F.affine_grid(matrix.to(flat.dtype), list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.view(batch, number, channels, height, width)


def warp_nearest(pictures: Tensor, matrix: Tensor) -> Tensor:
    """As `warp`, each pixel from the nearest: for depth, where a mean of near and far is nothing."""
    batch, number, channels, height, width = pictures.shape
    flat = pictures.reshape(batch, number * channels, height, width)
    grid = F.affine_grid(matrix.to(flat.dtype), list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, mode="nearest", padding_mode="border", align_corners=False)
    return moved.view(batch, number, channels, height, width)


def affine_matrix(
    angle: Tensor, scale: Tensor, shear: Tensor, shift: Tensor, height: int, width: int
) -> Tensor:
    """(B, 2, 3) for `warp`: the content turned, zoomed and sheared around the middle, then shifted.

    Args:
        angle (`Tensor`): (B,) in radians, clockwise on the screen.
        scale (`Tensor`): (B,), above 1 larger.
        shear (`Tensor`): (B,) in radians, along the width.
        shift (`Tensor`): (B, 2) in pixels, right and down.
        height (`int`): Pixels of the picture.
        width (`int`): Pixels of the picture.
    """
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], -1)
    lean = torch.stack([one, torch.tan(shear), zero, one], -1)
    forward = turn.view(-1, 2, 2) @ lean.view(-1, 2, 2) * scale.view(-1, 1, 1)
    # Pixels are square; the coordinates from -1 to 1 are not.
    half = forward.new_tensor([width / 2, height / 2])
    backward = torch.linalg.inv(forward)
    linear = backward * half.view(1, 1, 2) / half.view(1, 2, 1)
    offset = -(backward @ shift.to(forward.dtype).unsqueeze(-1)).squeeze(-1) / half
    return torch.cat([linear, offset.unsqueeze(-1)], dim=-1)


def blur(pictures: Tensor, sigma: Tensor, size: int) -> Tensor:
    """A Gaussian blur of `sigma` (B,) pixels with a kernel of `size`, odd; the edge is mirrored."""
    batch, number, channels, height, width = pictures.shape
    offsets = torch.arange(size, device=pictures.device, dtype=pictures.dtype) - (size - 1) / 2
    kernels = torch.softmax(-0.5 * (offsets / sigma.clamp(min=1e-3).view(-1, 1)) ** 2, dim=-1)  # (B, size)
    planes = number * channels
    flat = pictures.reshape(1, batch * planes, height, width)
    weights = kernels.repeat_interleave(planes, dim=0)
    margin = size // 2
    flat = F.conv2d(
        F.pad(flat, (margin, margin, 0, 0), mode="reflect"),
        weights.view(-1, 1, 1, size),
        groups=batch * planes,
    )
    flat = F.conv2d(
        F.pad(flat, (0, 0, margin, margin), mode="reflect"),
        weights.view(-1, 1, size, 1),
        groups=batch * planes,
    )
    return flat.view(batch, number, channels, height, width)


def erase(pictures: Tensor, box: Tensor) -> Tensor:
    """Black out `box` (B, 4): top, left, bottom, right in shares of the picture; empty, nothing."""
    height, width = pictures.shape[-2:]
    rows = (torch.arange(height, device=pictures.device) + 0.5) / height
    columns = (torch.arange(width, device=pictures.device) + 0.5) / width
    top, left, bottom, right = box.to(pictures.device).unsqueeze(-1).unbind(1)  # (B, 1) each
    inside_rows = (rows >= top) & (rows < bottom)  # (B, H)
    inside_columns = (columns >= left) & (columns < right)  # (B, W)
    hole = inside_rows[:, :, None] & inside_columns[:, None, :]
    return pictures.masked_fill(hole[:, None, None], 0.0)


def _over(factor: Tensor, pictures: Tensor) -> Tensor:
    """(B,) beside (B, N, C, H, W)."""
    return factor.to(pictures.dtype).view(-1, 1, 1, 1, 1)
