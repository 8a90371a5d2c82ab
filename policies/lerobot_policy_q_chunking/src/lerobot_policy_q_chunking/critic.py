# SPDX-License-Identifier: Apache-2.0
"""The critics: an ensemble that values chunks of actions, with an encoder of its own.

Legend: `B` batch, `K` flattened chunk, `D` features, `E` critics, `S` samples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lerobot_ext.nn.pooled_cameras import PooledCameras
from lerobot_ext.offline_rl.critics import EnsembleMLP, aggregate, bootstrap_masks
from lerobot_ext.offline_rl.observations import PooledObservations, vector_widths

from .configuration_q_chunking import AGGREGATIONS, QChunkingConfig

FOLDS = 2
"""Value networks of states; each learns from its half of the episodes."""


def folds(episodes: Tensor) -> Tensor:
    """(B,) number of the value network that learns from each of `episodes` (B,), alike in every process."""
    return (~bootstrap_masks(episodes, 1, 1 / FOLDS)[0]).long()


def judges(learners: Tensor) -> Tensor:
    """(B,) number of a value network that has not learned from an episode, by that of the one that has.

    A network knows the returns of the episodes that it has learned from, state by state: by itself no episode
    would be better or worse than usual.
    """
    return (learners + 1) % FOLDS


class ChunkCritic(nn.Module):
    """Values of chunks at observations.

    Args:
        config (`QChunkingConfig`): Features and widths.
    """

    def __init__(self, config: QChunkingConfig) -> None:
        super().__init__()
        assert config.action_feature is not None, "`config.validate_features()` runs before this"
        images = list(config.image_features)
        cameras = None
        if images:
            cameras = PooledCameras(
                len(images),
                config.image_feature_dim,
                config.image_size,
                config.vision_backbone,
                shift=config.random_shift,
            )
        dim = config.obs_feature_dim
        self.encoder = PooledObservations(
            vector_widths(config), images, cameras, config.image_feature_dim, dim
        )
        self.ensemble = EnsembleMLP(
            config.n_critics,
            dim + config.chunk_size * config.action_feature.shape[0],
            [config.hidden_dim] * config.hidden_layers,
            layer_norm=config.critic_layer_norm,
        )
        self.of_state: EnsembleMLP | None = None
        if config.value_target == "data":
            widths = [config.hidden_dim] * config.hidden_layers
            self.of_state = EnsembleMLP(FOLDS, dim, widths, layer_norm=config.critic_layer_norm)
        self.how, self.kappa = AGGREGATIONS[config.aggregation], config.kappa

    def observe(self, batch: dict[str, Any], time: int = 0, *, augment: bool = False) -> Tensor:
        """Features (B, D) of the observations at `time` of a batch's."""
        features: Tensor = self.encoder(batch, time, augment=augment)
        return features

    def forward(self, features: Tensor, chunk: Tensor) -> Tensor:
        """Values (E, B) of `chunk` (B, K) at `features` (B, D)."""
        values: Tensor = self.ensemble(features, chunk)
        return values

    def state_value(self, features: Tensor, network: Tensor) -> Tensor:
        """Values (B,) of states by the better of the logged chunks there; with `value_target` `"data"`.

        Args:
            features (`Tensor`): (B, D).
            network (`Tensor`): (B,) long, which of the networks says it.
        """
        assert self.of_state is not None
        # All by all: to ask each for its own alone would be a shape that depends on values.
        values: Tensor = self.of_state(features)
        return values[network, torch.arange(len(network), device=network.device)]

    def value(self, features: Tensor, chunk: Tensor) -> Tensor:
        """One value (B,) of the ensemble's."""
        return self.joined(self(features, chunk))

    def joined(self, values: Tensor) -> Tensor:
        """One value (B,) of those of the ensemble (E, B)."""
        return aggregate(values, self.how, pessimism=self.kappa)

    def values(self, features: Tensor, chunks: Tensor) -> Tensor:
        """Values (B, S) of several chunks (B, S, K) at each of `features` (B, D)."""
        size, samples, _ = chunks.shape
        return self.value(features.repeat_interleave(samples, 0), chunks.flatten(0, 1)).view(size, samples)

    def best(self, features: Tensor, chunks: Tensor) -> Tensor:
        """Of each row of `chunks` (B, S, K) the one of the largest value; returns (B, K)."""
        place = self.values(features, chunks).argmax(1)
        return chunks[torch.arange(len(chunks), device=chunks.device), place]
