# SPDX-License-Identifier: Apache-2.0
"""The networks of LAPO: encoder, critics, value, VAE and latent actor.

Legend: `B` batch, `H` chunk, `A` action, `K` flattened chunk (H * A), `D` observation features, `Z` latent,
`E` critics.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lerobot_ext.nn.pooled_cameras import PooledCameras
from lerobot_ext.offline_rl.critics import EnsembleMLP
from lerobot_ext.offline_rl.observations import MLP, PooledObservations, vector_widths

from .configuration_lapo import LAPOConfig

_LOG_STD_RANGE = (-4.0, 4.0)


class ObservationEncoder(PooledObservations):
    """All cameras and joints of one instant as one vector.

    Args:
        config (`LAPOConfig`): Features and widths.
    """

    def __init__(self, config: LAPOConfig) -> None:
        images = list(config.image_features)
        cameras = (
            PooledCameras(
                len(images),
                config.image_feature_dim,
                config.image_size,
                config.vision_backbone,
                # A checkpoint brings its own weights; nothing is to be downloaded for it.
                weights=None if config.pretrained_path else config.pretrained_backbone_weights,
                shift=config.random_shift,
            )
            if images
            else None
        )
        super().__init__(
            vector_widths(config), images, cameras, config.image_feature_dim, config.obs_feature_dim
        )


class LAPONetwork(nn.Module):
    """What is trained; a copy of it follows as the target.

    Only the networks that the extraction needs are there. Under mixed precision their outputs are float32
    all the same: advantages are small differences of values.

    Args:
        config (`LAPOConfig`): Features, widths and extraction.
    """

    def __init__(self, config: LAPOConfig) -> None:
        super().__init__()
        assert config.action_feature is not None, "`config.validate_features()` runs before this"
        action = config.action_feature.shape[0]
        self.chunk_shape = (config.chunk_size, action)
        self.max_latent = config.max_latent
        latents = config.extraction == "lapo"
        self.latent_dim = (config.latent_dim or 2 * action) if latents else 0
        chunk, features = config.chunk_size * action, config.obs_feature_dim
        hidden = [config.hidden_dim] * config.hidden_layers
        self.encoder = ObservationEncoder(config)
        self.decoder = MLP([features + self.latent_dim, *hidden, chunk])
        self.critic: EnsembleMLP | None = None
        self.value: EnsembleMLP | None = None
        if config.learns_values:
            norm = config.critic_layer_norm
            self.critic = EnsembleMLP(config.n_critics, features + chunk, hidden, layer_norm=norm)
            self.value = EnsembleMLP(1, features, hidden, layer_norm=norm)
        self.posterior: MLP | None = None
        self.actor: MLP | None = None
        if latents:
            self.posterior = MLP([features + chunk, *hidden, 2 * self.latent_dim])
            self.actor = MLP([features, *hidden, self.latent_dim])

    def q(self, features: Tensor, chunk: Tensor) -> Tensor:
        """Values (E, B) of `chunk` (B, K) at `features` (B, D)."""
        assert self.critic is not None
        values: Tensor = self.critic(features, chunk)
        return values.float()

    def v(self, features: Tensor) -> Tensor:
        """Values (B,) of `features` (B, D)."""
        assert self.value is not None
        values: Tensor = self.value(features)[0]
        return values.float()

    def latent(self, features: Tensor) -> Tensor:
        """The actor's latent (B, Z), within `max_latent`."""
        assert self.actor is not None
        return torch.tanh(self.actor(features).float()) * self.max_latent

    def decode(self, features: Tensor, latent: Tensor | None = None) -> Tensor:
        """Chunk (B, K) in [-1, 1] for `features` (B, D) and, where there is one, `latent` (B, Z)."""
        inputs = features if latent is None else torch.cat([features, latent], dim=-1)
        return torch.tanh(self.decoder(inputs).float())

    def encode_chunk(self, features: Tensor, chunk: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation (B, Z) of the latent of `chunk` (B, K)."""
        assert self.posterior is not None
        mean, log_std = self.posterior(torch.cat([features, chunk], dim=-1)).float().chunk(2, dim=-1)
        return mean, log_std.clamp(*_LOG_STD_RANGE)

    def act(self, features: Tensor) -> Tensor:
        """The policy's chunk (B, K)."""
        return self.decode(features, None if self.actor is None else self.latent(features))
