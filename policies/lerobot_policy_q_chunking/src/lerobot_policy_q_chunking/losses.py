# SPDX-License-Identifier: Apache-2.0
"""The losses of Q-chunking, on one batch and one optimizer.

Legend: `B` batch, `H` chunk, `A` action, `K` flattened chunk (H * A), `D` features, `E` critics, `S` samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lerobot_ext.offline_rl.losses import exponential_weights, masked_mean
from lerobot_ext.offline_rl.routing import policy_gradient_loss

from .critic import ChunkCritic
from .flow import Condition, FlowActor


def flow_loss(
    actor: FlowActor, condition: Condition, chunk: Tensor, valid: Tensor, noise: Tensor, time: Tensor
) -> Tensor:
    """Flow matching: the velocity on the straight line from noise to the chunk is their difference.

    Args:
        actor (`FlowActor`): Whose flow.
        condition (`Condition`): Of B observations.
        chunk (`Tensor`): (B, K), held behind the end.
        valid (`Tensor`): (B, H) bool.
        noise (`Tensor`): (B, K) standard normal.
        time (`Tensor`): (B,) in [0, 1].

    Returns:
        `Tensor`: (B,) mean squared error over the valid actions of each chunk; 0 where there is none.
    """
    share = time[:, None]
    velocity = actor.velocity(condition, (1 - share) * noise + share * chunk, time)
    squares = (velocity - (chunk - noise)).square().view(len(chunk), *actor.chunk_shape).mean(-1)  # (B, H)
    return torch.where(valid, squares, 0.0).sum(1) / valid.sum(1).clamp_min(1)


def critic_loss(values: Tensor, wanted: Tensor, usable: Tensor, masks: Tensor | None) -> Tensor:
    """Squared error of each critic over the frames that it learns from, averaged over the critics.

    Args:
        values (`Tensor`): (E, B) with a graph.
        wanted (`Tensor`): (B,); what is not usable may be anything.
        usable (`Tensor`): (B,) bool.
        masks (`Tensor`, *optional*): (E, B) bool, the frames of each critic; all without.

    Returns:
        `Tensor`: (B,), scaled so that its mean is the mean over critics of their means over their frames.
    """
    squares = (values - wanted).square()
    if masks is None:
        return masked_mean(squares, usable, "none").mean(0)
    learned = masks & usable  # (E, B)
    weights = learned.to(values.dtype) * (
        learned.shape[1] / learned.sum(1, keepdim=True).clamp_min(1).to(values.dtype)
    )
    return (torch.where(learned, squares, 0.0) * weights).mean(0)


def distill_loss(
    actor: FlowActor,
    critic: ChunkCritic,
    condition: Condition,
    critic_features: Tensor,
    noise: Tensor,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """QC-FQL's one-step actor: near where the flow leads from the same noise, and of large value.

    Args:
        actor (`FlowActor`): Flow and one-step actor; the flow learns nothing here.
        critic (`ChunkCritic`): Learns nothing here.
        condition (`Condition`): Of B observations, with its graph.
        critic_features (`Tensor`): (B, D) of the critic, without a graph.
        noise (`Tensor`): (B, K) standard normal.
        normalize (`bool`): Divide the value by its mean magnitude.

    Returns:
        `tuple[Tensor, Tensor, Tensor]`: Squared distance (B,) averaged over a chunk, a loss (B,) that raises
        the value, and the values (B,).
    """
    with torch.no_grad():
        led = actor.integrate(condition.detached(), noise)
    leapt = actor.leap(condition, noise)

    def value(chunk: Tensor) -> Tensor:
        values: Tensor = critic(critic_features, chunk.clamp(-1.0, 1.0)).mean(0)
        return values

    rising, values = policy_gradient_loss(value, leapt, normalize=normalize)
    return (leapt - led).square().mean(1), rising, values


def advantage_weights(logged: Tensor, usual: Tensor, inverse_temperature: float) -> Tensor:
    """AWR's weights (B,) of logged chunks by how much better than the actor's own they are."""
    return exponential_weights(logged - usual, inverse_temperature)
