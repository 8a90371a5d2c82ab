# SPDX-License-Identifier: Apache-2.0
"""LAPO: latent-variable advantage-weighted policy optimization from logs, on chunks of actions.

Chen, Li, Zhao, Bai, Zhang, Zhao, Wang, 2022, "Latent-Variable Advantage-Weighted Policy Optimization for
Offline RL", https://arxiv.org/abs/2203.08949. Reference: github.com/pcchenxi/LAPO-offlienRL. A VAE learns the
actions of the logs, weighted by advantage; an actor in its latent space raises the critic's value, and so can
only choose what the VAE has learned to do. Baselines on the same networks: implicit Q-learning (Kostrikov et
al., 2021), behaviour cloning, and cloning of the best episodes.

Differences from the reference:
- chunks of actions, with a critic of the chunk (Q-chunking); `chunk_size=1` is the reference's case;
- ends by a time limit are no terminals; values are in units of the largest and clamped to what the dataset's
  rewards allow;
- one optimizer with the actor's gradient taken through frozen decoder and critic; the actor's loss is
  divided by the mean value, so that it does not depend on the scale of the rewards;
- layer norm in the critics, GroupNorm or frozen batch norm in the cameras, no dropout; the encoder learns
  from reconstruction as well as from values; random shifts of the images;
- the slow copies of the networks act.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from torch import Tensor

from lerobot_ext.offline_rl.chunks import hold_last
from lerobot_ext.offline_rl.losses import Losses
from lerobot_ext.offline_rl.policy import LearnsFromLogs
from lerobot_ext.offline_rl.randomness import StepRandomness
from lerobot_ext.offline_rl.routing import parameter_group
from lerobot_ext.offline_rl.targets import make_target, soft_update

from .configuration_lapo import LAPOConfig
from .losses import Objective, Sample
from .network import LAPONetwork


class LAPOPolicy(LearnsFromLogs, PreTrainedPolicy):
    """The policy as LeRobot sees it: batches in, a loss or actions out.

    Args:
        config (`LAPOConfig`): Configuration with features.
        dataset_stats (`dict`, *optional*): LeRobot's statistics; the range of the rewards bounds the values
            where the dataset's episodes cannot be read.
        dataset_meta (`LeRobotDatasetMetadata`, *optional*): Tells where the dataset is; its rewards and ends
            are read from there.
        **kwargs: What else LeRobot's factory may hand over; unused.

    Raises:
        ValueError: If the features do not suit the policy, or the dataset lacks a column that `reward_source`
            or `terminal_mode` names.
    """

    config_class = LAPOConfig
    name = "lapo"
    _fsdp_wrap_modules: tuple[str, ...] = ("EnsembleMLP", "MLP")

    train_step: Tensor

    def __init__(
        self,
        config: LAPOConfig,
        dataset_stats: dict[str, dict[str, Any]] | None = None,
        dataset_meta: Any | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config)
        config.validate_features()
        self.config: LAPOConfig = config
        self.network = LAPONetwork(config)
        if config.encoder_trained_by == "none":
            self.network.encoder.requires_grad_(False)
        built = {type(module).__name__ for module in self.network.modules()}
        self._fsdp_wrap_modules = tuple(name for name in self._fsdp_wrap_modules if name in built)
        self.target = make_target(self.network)
        self.register_buffer("train_step", torch.zeros((), dtype=torch.long))
        self._read_labels(dataset_stats, dataset_meta)
        self._objective = Objective(config, self.network, self.target, self.labels)
        self._randomness = StepRandomness()
        self._actions: deque[Tensor] = deque(maxlen=config.n_action_steps)

    # ---- training ----------------------------------------------------------------------------------------

    def get_optim_params(self) -> list[dict[str, Any]]:
        """Encoder, critics, VAE and actor, each with its own learning rate and clipping."""
        cfg, network = self.config, self.network
        critics = [module for module in (network.critic, network.value) if module is not None]
        generators = [module for module in (network.decoder, network.posterior) if module is not None]
        actors = [module for module in (network.actor,) if module is not None]
        clip = cfg.optimizer_clip_norm
        groups = [
            parameter_group([network.encoder], cfg.optimizer_lr, clip_norm=clip),
            parameter_group(critics, cfg.optimizer_critic_lr, clip_norm=clip, weight_decay=0.0),
            parameter_group(generators, cfg.optimizer_lr, clip_norm=clip),
            parameter_group(actors, cfg.optimizer_lr, clip_norm=clip),
        ]
        return [group for group in groups if group["params"]]

    def forward(self, batch: dict[str, Any], reduction: str = "mean") -> tuple[Tensor, dict[str, float]]:
        """Compute the training loss.

        Its number is a sum of losses that pull in different directions: it need not fall. Look at
        `q_of_actor` and `reconstruction`, and rank checkpoints with `lerobot-ext fqe`.

        Args:
            batch (`dict[str, Any]`): A preprocessed batch of the config's delta indices.
            reduction (`str`, *optional*, defaults to `"mean"`): `"mean"` for a scalar, `"none"` for one loss
                a sample.

        Returns:
            `tuple[Tensor, dict[str, float]]`: The loss, () or (B,), and the parts for the log; values are in
            units of the rewards.

        Raises:
            ValueError: If `reduction` is unknown, or the batch lacks rewards or frames.
        """
        if self.training:
            with self._randomness.of_step(int(self.train_step), batch[ACTION].device):
                losses = self._losses(batch)
        else:
            losses = self._losses(batch)
        return losses.reduced(reduction), losses.figures(self.labels.scale)

    def _losses(self, batch: dict[str, Any]) -> Losses:
        actions = batch[ACTION]
        if actions.ndim != 3 or actions.shape[1] != self.config.chunk_size:
            raise ValueError(
                f"`action` has shape {tuple(actions.shape)}; training needs {self.config.chunk_size} actions "
                "a sample. Build the dataset with this config's `action_delta_indices`."
            )
        if self.config.learns_values:
            sample = self._sample(batch)
            lapo = self.config.extraction == "lapo"
            return self._objective.lapo(sample) if lapo else self._objective.iql(sample)
        valid = self.labels.valid(batch)
        kept = torch.ones_like(valid[:, 0])
        if self.config.extraction == "filtered_bc":
            kept = self.labels.best(batch, self.config.filter_share)
        features = self.network.encoder(batch, 0, augment=self.training)
        return self._objective.cloning(features, hold_last(actions, valid).flatten(1), valid, kept)

    def _sample(self, batch: dict[str, Any]) -> Sample:
        """What the losses that learn values read of a batch."""
        valid = self.labels.valid(batch)
        features = self.network.encoder(batch, 0, augment=self.training)
        with torch.no_grad():
            following = self.network.encoder(batch, 1, augment=self.training)
            slow = self.target.encoder(batch, 0, augment=self.training)
        chunk = hold_last(batch[ACTION], valid).flatten(1)
        return Sample(features, slow, following, chunk, valid, self.labels.targets(batch))

    def update(self) -> None:
        """Count an optimizer step and move the target networks; LeRobot calls this after each step."""
        self.train_step += 1
        self._randomness.advance()
        soft_update(self.target, self.network, self.config.tau)

    # ---- inference ---------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the queued actions."""
        self._actions.clear()

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any]) -> Tensor:
        """Return the next action, planning a new chunk when the last one's `n_action_steps` are spent.

        Args:
            batch (`dict[str, Any]`): One preprocessed observation a robot, (B, ...).

        Returns:
            `Tensor`: (B, A) in the normalised action space.
        """
        if not self._actions:
            chunk = self.predict_action_chunk(batch)
            self._actions.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        return self._actions.popleft()

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        """The chunk of the slow networks; the first action belongs to the newest observation.

        Args:
            batch (`dict[str, Any]`): A preprocessed observation (B, ...), or a training batch, of which the
                first frame counts.
            **kwargs: What LeRobot may hand over; there is no noise and no step to set.

        Returns:
            `Tensor`: (B, chunk_size, A) in the normalised action space.
        """
        chunk: Tensor = self.target.act(self.target.encoder(batch, 0))
        return chunk.view(len(chunk), *self.network.chunk_shape)

    @torch.no_grad()
    def observation_features(self, batch: dict[str, Any]) -> Tensor:
        """(B, D) of an observation, from the slow encoder; `lerobot-ext fqe` tells states apart by it."""
        features: Tensor = self.target.encoder(batch, 0)
        return features
