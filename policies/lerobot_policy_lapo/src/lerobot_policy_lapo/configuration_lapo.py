# SPDX-License-Identifier: Apache-2.0
"""Configuration of the LAPO policy and its baselines."""

from __future__ import annotations

from dataclasses import dataclass, field

# Not from `lerobot.configs`: this module may be imported while that package still is.
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import NormalizationMode

from lerobot_ext.offline_rl.configuration import LearnsFromLogsConfig
from lerobot_ext.pipelines.config import ExtraStepsField

EXTRACTIONS = ("lapo", "iql", "bc", "filtered_bc")
"""How a policy is made from the logs; the last two learn no values."""

ENCODER_TRAINERS = ("both", "critic", "policy", "none")
BACKBONES = ("small", "resnet18", "resnet18_frozen_bn")


def _default_normalization() -> dict[str, NormalizationMode]:
    return {
        "VISUAL": NormalizationMode.MEAN_STD,
        "STATE": NormalizationMode.MIN_MAX,
        "ENV": NormalizationMode.MIN_MAX,
        "ACTION": NormalizationMode.MIN_MAX,
    }


@PreTrainedConfig.register_subclass("lapo")
@dataclass
class LAPOConfig(LearnsFromLogsConfig, ExtraStepsField, PreTrainedConfig):
    """Everything that decides what a LAPO policy is and how it learns from logs with rewards.

    Args:
        extraction (`str`, *optional*, defaults to `"lapo"`): How the policy is made from the logs: `"lapo"`
            (advantage-weighted VAE and an actor in its latent space), `"iql"` (implicit Q-learning with
            advantage-weighted regression), `"bc"` (regression on all episodes), `"filtered_bc"` (regression
            on the best episodes).
        normalization_mapping (`dict[str, NormalizationMode]`, *optional*): Normalisation for each kind of
            feature; actions must end up in [-1, 1].
        image_size (`tuple[int, int]`, *optional*, defaults to `(96, 96)`): Height and width to which every
            camera is resized.
        vision_backbone (`str`, *optional*, defaults to `"small"`): `"small"` (four convolutions),
            `"resnet18"` (GroupNorm, random weights) or `"resnet18_frozen_bn"` (batch norm that never changes,
            for pretrained weights).
        pretrained_backbone_weights (`str`, *optional*): For `"resnet18_frozen_bn"`: a file with ResNet-18's
            state dict, or the name of torchvision's weights (a download).
        image_feature_dim (`int`, *optional*, defaults to `128`): Width of each camera's feature vector.
        obs_feature_dim (`int`, *optional*, defaults to `256`): Width of the features of an observation, made
            of all cameras and joints.
        hidden_dim (`int`, *optional*, defaults to `256`): Width of the hidden layers of every network.
        hidden_layers (`int`, *optional*, defaults to `2`): Their number, in every network.
        random_shift (`int`, *optional*, defaults to `4`): Each training image is shifted by up to this many
            pixels.
        encoder_trained_by (`str`, *optional*, defaults to `"both"`): Which losses train the observation
            encoder: `"critic"` (values), `"policy"` (reconstruction or regression), `"both"`, or `"none"` (it
            keeps its weights). The latent actor never does.
        chunk_size (`int`, *optional*, defaults to `8`): Actions of a chunk; the critic bootstraps that many
            frames ahead. 1 is the original algorithm.
        n_action_steps (`int`, *optional*, defaults to `4`): Actions of a chunk that are executed before the
            next one.
        discount (`float`, *optional*, defaults to `0.99`): Discount of one frame, below 1.
        reward_source (`str`, *optional*, defaults to `"next.reward"`): `"next.reward"` (the column),
            `"sparse_success"` (1 at the last frame of an episode with `next.success`) or `"step_cost"` (-1 at
            every frame but that one).
        terminal_mode (`str`, *optional*, defaults to `"auto"`): After which ends of episodes nothing follows:
            `"success"` (`next.success`), `"done_flag"` (`next.done` without `next.truncated`),
            `"episode_end"` (all), `"never"`; `"auto"` takes the first of these whose column the dataset has.
        n_critics (`int`, *optional*, defaults to `2`): Members of the critic ensemble.
        critic_layer_norm (`bool`, *optional*, defaults to `True`): Layer normalisation in critic and value.
        expectile (`float`, *optional*, defaults to `0.98`): For `"lapo"` the weight of chunks with a positive
            advantage (others get the rest): nearer to 1 filters more and covers less. For `"iql"` the
            expectile of the value, for which 0.7 to 0.9 are usual. In (0, 1).
        kl_beta (`float`, *optional*, defaults to `1.0`): Weight of the VAE's KL divergence.
        latent_dim (`int`, *optional*): Width of the VAE's latent; twice the action's by default.
        max_latent (`float`, *optional*, defaults to `2.0`): The actor's latents lie within this many standard
            deviations of the VAE's prior.
        target_noise (`float`, *optional*, defaults to `0.1`): Noise on the actor's latent in value targets,
            cut off at twice as much.
        pessimism (`float`, *optional*, defaults to `0.8`): Share of the smallest critic in value targets; the
            rest is the largest one's.
        inverse_temperature (`float`, *optional*, defaults to `10.0`): `"iql"`: weight of an action is the
            exponential of this times its advantage, values being in units of the largest; at most 100.
        filter_share (`float`, *optional*, defaults to `0.3`): `"filtered_bc"`: share of the episodes, those
            with the largest returns, that are imitated.
        tau (`float`, *optional*, defaults to `0.01`): How far the target networks move towards the trained
            ones at each step; the targets are also what acts.
        optimizer_lr (`float`, *optional*, defaults to `3e-4`): Learning rate of VAE, actor and encoder.
        optimizer_critic_lr (`float`, *optional*, defaults to `5e-4`): Learning rate of critic and value.
        optimizer_weight_decay (`float`, *optional*, defaults to `0.0`): Weight decay of VAE, actor and
            encoder; critics have none.
        optimizer_clip_norm (`float`, *optional*, defaults to `10.0`): Largest gradient norm of each group of
            networks (encoder, critics, VAE, actor) by itself; 0 does not clip.
    """

    # What is learned.
    extraction: str = "lapo"

    # Inputs.
    normalization_mapping: dict[str, NormalizationMode] = field(default_factory=_default_normalization)
    image_size: tuple[int, int] = (96, 96)
    vision_backbone: str = "small"
    pretrained_backbone_weights: str | None = None
    image_feature_dim: int = 128
    obs_feature_dim: int = 256
    hidden_dim: int = 256
    hidden_layers: int = 2
    random_shift: int = 4
    encoder_trained_by: str = "both"

    # Actions.
    chunk_size: int = 8
    n_action_steps: int = 4

    # Values.
    discount: float = 0.99
    reward_source: str = "next.reward"
    terminal_mode: str = "auto"
    n_critics: int = 2
    critic_layer_norm: bool = True

    # Extraction.
    expectile: float = 0.98
    kl_beta: float = 1.0
    latent_dim: int | None = None
    max_latent: float = 2.0
    target_noise: float = 0.1
    pessimism: float = 0.8
    inverse_temperature: float = 10.0
    filter_share: float = 0.3

    # Optimisation.
    tau: float = 0.01
    optimizer_lr: float = 3e-4
    optimizer_critic_lr: float = 5e-4
    optimizer_weight_decay: float = 0.0
    optimizer_clip_norm: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_action_steps", "n_critics", "hidden_layers", "hidden_dim", "obs_feature_dim"):
            self._require(name, getattr(self, name) >= 1, "must be at least 1")
        self._require("image_feature_dim", self.image_feature_dim >= 16, "must be at least 16")
        self._require("latent_dim", self.latent_dim is None or self.latent_dim >= 1, "must be at least 1")
        self._require("expectile", 0.0 < self.expectile < 1.0, "must lie in (0, 1)")
        self._require("pessimism", 0.0 <= self.pessimism <= 1.0, "must lie in [0, 1]; it is a share")
        self._require("filter_share", 0.0 < self.filter_share <= 1.0, "must lie in (0, 1]; it is a share")
        self._require("tau", 0.0 < self.tau <= 1.0, "must lie in (0, 1]; 1 has no target networks")
        self._require("max_latent", self.max_latent > 0.0, "must be above 0")
        for name in ("kl_beta", "target_noise", "inverse_temperature", "random_shift", "optimizer_clip_norm"):
            self._require(name, getattr(self, name) >= 0, "must not be negative")
        self._require_choices(
            {"extraction": EXTRACTIONS, "encoder_trained_by": ENCODER_TRAINERS, "vision_backbone": BACKBONES}
        )
        self._require_sizes()
        self._check_sizes()

    @property
    def learns_values(self) -> bool:
        """Whether critics are learned, so that rewards and the next observation are needed."""
        return self.extraction in ("lapo", "iql")

    @property
    def observation_delta_indices(self) -> list[int]:
        """The observation a chunk begins with and, to learn values, the one after it."""
        return [0, self.chunk_size] if self.learns_values else [0]

    @property
    def action_delta_indices(self) -> list[int]:
        """The chunk."""
        return list(range(self.chunk_size))

    def _check_sizes(self) -> None:
        if self.pretrained_backbone_weights and self.vision_backbone != "resnet18_frozen_bn":
            raise ValueError(
                f"`pretrained_backbone_weights` ({self.pretrained_backbone_weights}) are for "
                f"`vision_backbone` 'resnet18_frozen_bn', not {self.vision_backbone!r}."
            )
        if not self.learns_values and self.encoder_trained_by == "critic":
            raise ValueError(
                f"`encoder_trained_by` 'critic' leaves the encoder untrained with `extraction` "
                f"{self.extraction!r}, which has no critic; use 'policy'."
            )
