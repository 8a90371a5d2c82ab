# SPDX-License-Identifier: Apache-2.0
"""What a chunk of actions is worth: its discounted return, and how much of the next value belongs to it.

Q-chunking (Li, Zhou, Levine, 2025, https://arxiv.org/abs/2507.07969) bootstraps `h` steps ahead without the
bias of off-policy n-step returns, because the critic sees all `h` actions:

    Q(s_t, a_t … a_t+h-1)  ->  Σ_k γ^k r_t+k  +  γ^h · mask · V(s_t+h)

Differences from the reference: a chunk that runs beyond the end of an episode that ended in a terminal state
still counts (nothing follows, so its return is known), where the reference leaves it out; one that a time
limit cut off is left out, because the state after it was never recorded.

Legend: `B` batch, `H` chunk, `A` action width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ChunkTargets(NamedTuple):
    """What a chunk's critic is to be taught.

    Attributes:
        returns (`Tensor`): (B,) discounted rewards within the chunk.
        bootstrap (`Tensor`): (B,) factor of the next state's value: `γ^H`, or 0 where nothing follows.
        usable (`Tensor`): (B,) bool, whether the sample says what the chunk is worth.
    """

    returns: Tensor
    bootstrap: Tensor
    usable: Tensor


def chunk_targets(
    rewards: Tensor,
    valid: Tensor,
    at_end: Tensor,
    terminal: Tensor,
    discount: float,
    *,
    keep_short: bool = True,
) -> ChunkTargets:
    """Returns, bootstrap factors and usable samples of a batch of chunks.

    | the chunk | its episode ended | target | used |
    |---|---|---|---|
    | ends within the episode | | returns + γ^H · next value | yes |
    | ends with the episode | in a terminal state | returns | yes |
    | runs beyond the end | in a terminal state | returns up to the end | if `keep_short` |
    | ends with the episode or runs beyond it | cut off | unknown: the next state is missing | no |
    | has no valid action | | | no |

    Args:
        rewards (`Tensor`): (B, H) reward of each step; values behind the end are ignored, whatever they are.
        valid (`Tensor`): (B, H) bool, True within the episode: `~action_is_pad`. True only up to the end.
        at_end (`Tensor`): (B,) bool, whether the state `H` steps on lies beyond the recorded ones:
            `observation.state_is_pad[:, 1]`.
        terminal (`Tensor`): (B,) bool, whether the sample's *episode* ended in a terminal state, so that
            nothing follows; False where it was cut off.
        discount (`float`): γ in [0, 1].
        keep_short (`bool`, *optional*, defaults to `True`): Use chunks that run beyond a terminal state. Fill
            their actions with `hold_last`.

    Returns:
        `ChunkTargets`: In the dtype of `rewards`.

    Raises:
        ValueError: If the shapes do not fit or `discount` is no discount.
    """
    if rewards.ndim != 2 or valid.shape != rewards.shape:
        raise ValueError(
            f"`rewards` {tuple(rewards.shape)} and `valid` {tuple(valid.shape)} must both be (B, H); set "
            "`reward_delta_indices` and `action_delta_indices` to the same range."
        )
    if at_end.shape != rewards.shape[:1] or terminal.shape != rewards.shape[:1]:
        raise ValueError(
            f"`at_end` {tuple(at_end.shape)} and `terminal` {tuple(terminal.shape)} must be (B,), here "
            f"({len(rewards)},)."
        )
    if not 0.0 <= discount <= 1.0:
        raise ValueError(f"`discount` ({discount}) must lie in [0, 1].")
    returns = discounted_sum(rewards, valid, discount)
    whole = valid.all(1)
    continues = whole & ~at_end
    ends = terminal & ~continues & (whole if not keep_short else valid[:, 0])
    # Not by `where` of two Python numbers, which is single precision whatever the rewards are.
    bootstrap = continues.to(rewards.dtype) * discount ** rewards.shape[1]
    return ChunkTargets(returns, bootstrap, continues | ends)


def discounted_sum(rewards: Tensor, valid: Tensor, discount: float) -> Tensor:
    """Σ_k γ^k r_k over the valid steps of (B, H); returns (B,). Invalid rewards may be NaN."""
    steps = torch.arange(rewards.shape[1], device=rewards.device, dtype=rewards.dtype)
    weights = torch.pow(torch.as_tensor(discount, dtype=rewards.dtype, device=rewards.device), steps)
    return (torch.where(valid, rewards, 0.0) * weights).sum(1)


def hold_last(actions: Tensor, valid: Tensor) -> Tensor:
    """Repeat the last valid action behind the end of each chunk.

    A critic reads whole chunks; what stands at padded places must not depend on how they were padded.

    Args:
        actions (`Tensor`): (B, H, A).
        valid (`Tensor`): (B, H) bool, True up to the end.

    Returns:
        `Tensor`: (B, H, A); a chunk without a valid action is all zeros.
    """
    last = (valid.sum(1) - 1).clamp_min(0)  # (B,)
    filler = actions.gather(1, last[:, None, None].expand(-1, 1, actions.shape[2]))
    held = torch.where(valid[..., None], actions, filler)
    return torch.where(valid[:, :1, None], held, 0.0)


def valid_steps(batch: dict[str, object], key: str, shape: tuple[int, int], device: torch.device) -> Tensor:
    """(B, H) bool of the steps that `{key}_is_pad` does not call padding; all where there is no mask."""
    padded = batch.get(f"{key}_is_pad")
    return ~padded if isinstance(padded, Tensor) else torch.ones(shape, dtype=torch.bool, device=device)
