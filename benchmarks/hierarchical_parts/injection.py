# SPDX-License-Identifier: Apache-2.0
"""Violations put into held-out frames, independently of those that the safety layer trains on.

All is in the policy's normalised units. Legend: `B` batch, `W` frames of the window, `S` joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("limit", "speed", "tracking")


@dataclass(frozen=True)
class Usual:
    """What the demonstrations do.

    Args:
        low (`Tensor`), high (`Tensor`): (S,) range of the joints.
        speed (`Tensor`): (S,) the 99.9 % quantile of a joint's change a frame.
        lag (`Tensor`): (S,) the 99.9 % quantile of the distance between a joint and its last command.
        joints (`Tensor`): Which joints move at all.
    """

    low: Tensor
    high: Tensor
    speed: Tensor
    lag: Tensor
    joints: Tensor


def limit(state: Tensor, offsets: list[int], usual: Usual, generator: torch.Generator) -> Tensor:
    """A joint moves steadily over four frames to 6 to 25 % of its range beyond it.

    Args:
        state (`Tensor`): (B, W, S) window.
        offsets (`list[int]`): Frame of each of the W, 0 is now; what comes after stays.
        usual (`Usual`): What is usual.
        generator (`torch.Generator`): Chooses joints, sides and sizes.
    """
    joint, side, size = _chosen(len(state), usual.joints, generator)
    beyond = (0.06 + 0.19 * size) * (usual.high - usual.low)[joint]
    wanted = torch.where(side > 0, usual.high[joint] + beyond, usual.low[joint] - beyond)
    now = state[:, offsets.index(0), :].gather(1, joint[:, None])[:, 0]
    share = torch.tensor([max(0.0, 1 + offset / 4) if offset <= 0 else 0.0 for offset in offsets])
    return _moved(state, joint, (wanted - now)[:, None] * share)


def speed(state: Tensor, offsets: list[int], usual: Usual, generator: torch.Generator) -> Tensor:
    """A joint is 1.5 to 4 times the usual largest change further than the frame before, now."""
    joint, side, size = _chosen(len(state), usual.joints, generator)
    jump = side * (1.5 + 2.5 * size) * usual.speed[joint]
    return _moved(state, joint, jump[:, None] * torch.tensor([float(offset == 0) for offset in offsets]))


def tracking(state: Tensor, command: Tensor, usual: Usual, generator: torch.Generator) -> Tensor:
    """The last command (B, S) as it would be if a joint were 1.5 to 4 times the usual lag away from it.

    The command is in the joints' units; `state` (B, S) is where they are now.
    """
    joint, side, size = _chosen(len(state), usual.joints, generator)
    changed = command.clone()
    rows = torch.arange(len(state))
    changed[rows, joint] = state[rows, joint] + side * (1.5 + 2.5 * size) * usual.lag[joint]
    return changed


def _chosen(batch: int, joints: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    joint = joints[torch.randint(len(joints), (batch,), generator=generator)]
    side = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
    return joint, side, torch.rand(batch, generator=generator)


def _moved(state: Tensor, joint: Tensor, by: Tensor) -> Tensor:
    """`state` (B, W, S) with one joint of each sample moved by `by` (B, W)."""
    changed = state.clone()
    changed[torch.arange(len(state)), :, joint] += by
    return changed
