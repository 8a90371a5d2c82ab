# SPDX-License-Identifier: Apache-2.0
"""The losses of LAPO and of its baselines, on one batch and one optimizer.

Legend: `B` batch, `H` chunk, `A` action, `K` flattened chunk (H * A), `D` features, `E` critics.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lerobot_ext.offline_rl.batches import ChunkLabels
from lerobot_ext.offline_rl.chunks import ChunkTargets
from lerobot_ext.offline_rl.critics import aggregate
from lerobot_ext.offline_rl.losses import (
    Losses,
    expectile_loss,
    exponential_weights,
    gaussian_kl,
    masked_mean,
    two_level_weights,
)
from lerobot_ext.offline_rl.routing import policy_gradient_loss

from .configuration_lapo import LAPOConfig
from .network import LAPONetwork


class Sample(NamedTuple):
    """A batch as the losses read it.

    Attributes:
        features (`Tensor`): (B, D) of the state, from the trained encoder, with its graph.
        target_features (`Tensor`): (B, D) of the state, from the target encoder.
        next_features (`Tensor`): (B, D) of the state after the chunk, from the trained encoder, no graph.
        chunk (`Tensor`): (B, K) actions, held behind the end.
        valid (`Tensor`): (B, H) bool.
        targets (`ChunkTargets`): (B,) each, in units of the labels' scale.
    """

    features: Tensor
    target_features: Tensor
    next_features: Tensor
    chunk: Tensor
    valid: Tensor
    targets: ChunkTargets


class Objective:
    """The loss of a batch by the configured extraction.

    Args:
        config (`LAPOConfig`): Extraction and its numbers.
        network (`LAPONetwork`): The trained networks.
        target (`LAPONetwork`): Their slow copies.
        labels (`ChunkLabels`): Bounds of the values.
    """

    def __init__(
        self, config: LAPOConfig, network: LAPONetwork, target: LAPONetwork, labels: ChunkLabels
    ) -> None:
        self.config, self.network, self.target, self.labels = config, network, target, labels

    def cloning(self, features: Tensor, chunk: Tensor, valid: Tensor, kept: Tensor) -> Losses:
        """Regression on the chunks that are kept (B,): `bc` and `filtered_bc`."""
        error = self._error(self.network.decode(self._for_policy(features)), chunk, valid)
        kept = kept & valid[:, 0]
        total = masked_mean(error, kept, "none")
        return Losses(total, {"reconstruction": _mean(error, kept)}, {})

    def iql(self, sample: Sample) -> Losses:
        """Implicit Q-learning: expectile value, advantage-weighted regression."""
        cfg, network, counted = self.config, self.network, sample.valid[:, 0]
        critic_features = self._for_critic(sample.features)
        with torch.no_grad():
            wanted = self._bootstrapped(sample)
            logged = aggregate(self.target.q(sample.target_features, sample.chunk), "min")
        values = network.v(critic_features)
        q = network.q(critic_features, sample.chunk)
        advantage = logged - values.detach()
        weights = exponential_weights(advantage, cfg.inverse_temperature)
        error = self._error(network.decode(self._for_policy(sample.features)), sample.chunk, sample.valid)
        critic_loss = (q - wanted).square().sum(0)
        value_loss = expectile_loss(logged - values, cfg.expectile)
        total = (
            masked_mean(critic_loss, sample.targets.usable, "none")
            + masked_mean(value_loss, counted, "none")
            + masked_mean(weights * error, counted, "none")
        )
        parts = {
            "critic_loss": _mean(critic_loss, sample.targets.usable),
            "value_loss": _mean(value_loss, counted),
            "reconstruction": _mean(error, counted),
            "weight": _mean(weights, counted),
        }
        return Losses(total, parts, {"q": q.detach().mean(), "v": values.detach().mean()})

    def lapo(self, sample: Sample) -> Losses:
        """LAPO: values of the latent actor, an advantage-weighted VAE, and the actor in its latent space."""
        cfg, network, target, counted = self.config, self.network, self.target, sample.valid[:, 0]
        critic_features, policy_features = (
            self._for_critic(sample.features),
            self._for_policy(sample.features),
        )
        with torch.no_grad():
            wanted = self._bootstrapped(sample)
            acted = target.decode(sample.target_features, self._noisy_latent(sample.target_features))
            of_actor = aggregate(target.q(sample.target_features, acted), "mix", pessimism=cfg.pessimism)
            wanted_value = self.labels.clamp(of_actor)
            logged = aggregate(target.q(sample.target_features, sample.chunk), "min")
        values = network.v(critic_features)
        q = network.q(critic_features, sample.chunk)
        # The reward that came says more about a chunk than the critic does; where it is unknown, the critic.
        advantage = torch.where(sample.targets.usable, wanted, logged) - values.detach()
        weights = two_level_weights(advantage, cfg.expectile)
        mean, log_std = network.encode_chunk(policy_features, sample.chunk)
        latent = mean + log_std.exp() * torch.randn_like(mean)
        error = self._error(network.decode(policy_features, latent), sample.chunk, sample.valid)
        divergence = gaussian_kl(mean, log_std)
        actor_loss, actor_values = self._actor(sample)
        critic_loss = (q - wanted).square().sum(0)
        value_loss = (values - wanted_value).square()
        total = (
            masked_mean(critic_loss, sample.targets.usable, "none")
            + masked_mean(value_loss, counted, "none")
            + masked_mean(weights * (error + cfg.kl_beta * divergence), counted, "none")
            + actor_loss
        )
        parts = {
            "critic_loss": _mean(critic_loss, sample.targets.usable),
            "value_loss": _mean(value_loss, counted),
            "reconstruction": _mean(error, counted),
            "kl": _mean(divergence, counted),
            "positive_advantage": _mean((advantage > 0).float(), counted),
        }
        figures = {"q": q.detach().mean(), "v": values.detach().mean(), "q_of_actor": actor_values.mean()}
        return Losses(total, parts, figures)

    def _actor(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Loss (B,) of the latent actor through decoder and critic, which learn nothing from it."""
        features = sample.features.detach()

        def value(latent: Tensor) -> Tensor:
            chunk = self.target.decode(sample.target_features, latent)
            return aggregate(self.network.q(features, chunk), "mean")

        return policy_gradient_loss(value, self.network.latent(features), normalize=True)

    def _noisy_latent(self, features: Tensor) -> Tensor:
        latent, noise = self.target.latent(features), self.config.target_noise
        return latent + (torch.randn_like(latent) * noise).clamp(-2 * noise, 2 * noise)

    def _bootstrapped(self, sample: Sample) -> Tensor:
        """(B,) what the critic is taught: returns and the discounted value of what follows."""
        following = self.network.v(sample.next_features)
        return self.labels.clamp(sample.targets.returns + sample.targets.bootstrap * following)

    def _error(self, decoded: Tensor, chunk: Tensor, valid: Tensor) -> Tensor:
        """(B,) squared error summed over a chunk's numbers, scaled up where part of it is padding."""
        squares = (decoded - chunk).square().view(len(chunk), *self.network.chunk_shape).sum(-1)  # (B, H)
        return masked_mean_of_steps(squares, valid) * valid.shape[1]

    def _for_critic(self, features: Tensor) -> Tensor:
        return features if self.config.encoder_trained_by in ("both", "critic") else features.detach()

    def _for_policy(self, features: Tensor) -> Tensor:
        return features if self.config.encoder_trained_by in ("both", "policy") else features.detach()


def masked_mean_of_steps(values: Tensor, valid: Tensor) -> Tensor:
    """(B,) mean of `values` (B, H) over the valid steps; 0 where there is none."""
    return torch.where(valid, values, 0.0).sum(1) / valid.sum(1).clamp_min(1)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return masked_mean(values.detach(), mask)
