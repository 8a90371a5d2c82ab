# SPDX-License-Identifier: Apache-2.0
"""Configuration of the Q-chunking policy."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

# Not from `lerobot.configs`: this module may be imported while that package still is.
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import NormalizationMode

from lerobot_ext.offline_rl.configuration import LearnsFromLogsConfig
from lerobot_ext.pipelines.config import ExtraStepsField

from .actor_choice import ActorConfig

EXTRACTIONS = ("distill", "best_of_n", "awr", "bc", "filtered_bc")
"""How a policy is made from the logs; the last two learn no values."""

AGGREGATIONS = {"mean": "mean", "min": "min", "mean_minus_std": "mean_std"}
"""How the critics are read together, and what `lerobot_ext.offline_rl.critics.aggregate` calls it."""

VALUE_TARGETS = ("actor", "data")
"""Whose chunk follows in the critics' targets."""

BACKBONES = ("small", "resnet18")


def _default_normalization() -> dict[str, NormalizationMode]:
    return {
        "VISUAL": NormalizationMode.MEAN_STD,
        "STATE": NormalizationMode.MIN_MAX,
        "ENV": NormalizationMode.MIN_MAX,
        "ACTION": NormalizationMode.MIN_MAX,
    }


@PreTrainedConfig.register_subclass("q_chunking")
@dataclass
class QChunkingConfig(LearnsFromLogsConfig, ExtraStepsField, PreTrainedConfig):
    """Everything that decides what a Q-chunking policy is and how it learns from logs with rewards.

    Args:
        extraction (`str`, *optional*, defaults to `"distill"`): How the policy is made: `"distill"` (QC-FQL:
            a one-step actor that is drawn to a flow policy of the logs and raises the critics' value),
            `"best_of_n"` (QC: the sample of the flow policy that the critics like best), `"awr"` (a flow
            policy of the logs, weighted by advantage), `"bc"` (a flow policy of all episodes),
            `"filtered_bc"` (of the best episodes).
        actor (`ActorConfig`, *optional*): Another LeRobot policy as the actor, `--policy.actor.type=…`, with
            its own loss, processors and optimizer settings; without one, the flow policy of this package.
        actor_lora_rank (`int`, *optional*, defaults to `0`): With an `actor` that names its targets: train
            LoRA adapters of this rank (PEFT) and freeze the rest of it; 0 trains all of it.
        freeze_actor (`bool`, *optional*, defaults to `False`): With an `actor`: train the critics alone.
        normalization_mapping (`dict[str, NormalizationMode]`, *optional*): Normalisation for each kind of
            feature; actions must end up in [-1, 1]. With an `actor`, its own.
        image_size (`tuple[int, int]`, *optional*, defaults to `(96, 96)`): Height and width to which every
            camera is resized.
        vision_backbone (`str`, *optional*, defaults to `"small"`): `"small"` (four convolutions) or
            `"resnet18"` (GroupNorm, random weights).
        image_feature_dim (`int`, *optional*, defaults to `64`): Width of the critics' vector of each camera.
        obs_feature_dim (`int`, *optional*, defaults to `128`): Width of the features of an observation.
        random_shift (`int`, *optional*, defaults to `4`): Each training image is shifted by up to this many
            pixels.
        chunk_size (`int`, *optional*, defaults to `8`): Actions of a chunk that the critics read; they
            bootstrap that many frames ahead.
        n_action_steps (`int`, *optional*, defaults to `4`): Actions of a chunk that are executed before the
            next one.
        flow_steps (`int`, *optional*, defaults to `5`): Euler steps from noise to a chunk.
        actor_hidden_dim (`int`, *optional*, defaults to `256`): Width of the flow policy on vectors, and of
            the one-step actor.
        actor_hidden_layers (`int`, *optional*, defaults to `3`): Their residual blocks.
        transformer_dim (`int`, *optional*, defaults to `128`): Width of the flow policy's tokens on cameras.
        transformer_layers (`int`, *optional*, defaults to `2`): Blocks over the tokens of an observation, and
            as many over these and a chunk's.
        transformer_heads (`int`, *optional*, defaults to `4`): Their attention heads.
        hidden_dim (`int`, *optional*, defaults to `256`): Width of the critics.
        hidden_layers (`int`, *optional*, defaults to `2`): Their hidden layers.
        discount (`float`, *optional*, defaults to `0.97`): Discount of one frame, below 1. For good episodes
            of T frames about 1 - 1.5 / T: nearer to 1 good and bad chunks differ too little.
        reward_source (`str`, *optional*, defaults to `"next.reward"`): `"next.reward"` (the column),
            `"sparse_success"` (1 at the last frame of an episode with `next.success`) or `"step_cost"` (-1 at
            every frame but that one).
        terminal_mode (`str`, *optional*, defaults to `"auto"`): After which ends of episodes nothing follows:
            `"success"` (`next.success`), `"done_flag"` (`next.done` without `next.truncated`),
            `"episode_end"` (all), `"never"`; `"auto"` takes the first of these whose column the dataset has.
        n_critics (`int`, *optional*, defaults to `2`): Members of the critic ensemble.
        critic_layer_norm (`bool`, *optional*, defaults to `True`): Layer normalisation in the critics.
        aggregation (`str`, *optional*, defaults to `"mean"`): One value from the critics': `"mean"`, `"min"`,
            or `"mean_minus_std"`.
        kappa (`float`, *optional*, defaults to `1.0`): Standard deviations that `"mean_minus_std"` takes off.
        value_target (`str`, *optional*, defaults to `"data"`): What follows a chunk in the critics' targets:
            `"data"`, the value of the better logged chunks there (IQL's expectile; nothing is asked of the
            critics that the logs do not hold), or `"actor"`, that of what the actor would do (as published;
            it takes many more steps until values are true).
        expectile (`float`, *optional*, defaults to `0.9`): With `value_target` `"data"`: how far towards the
            best of the logged chunks, in [0.5, 1).
        bootstrap_probability (`float`, *optional*, defaults to `1.0`): Share of the frames that each critic
            learns from, chosen by a hash of the frame's number; below 1 the critics differ more.
        alpha (`float`, *optional*, defaults to `100.0`): `"distill"`: weight of staying with the flow policy,
            against the value.
        normalize_q (`bool`, *optional*, defaults to `True`): `"distill"`: divide the value by its mean
            magnitude in the batch, so that `alpha` does not depend on the scale of the rewards.
        distill_every (`int`, *optional*, defaults to `2`): `"distill"`: the one-step actor learns from every
            so-manieth sample of a batch; walking along the flow for all of them is most of a step.
        bc_weight (`float`, *optional*, defaults to `1.0`): Weight of the flow policy's own loss.
        num_samples (`int`, *optional*, defaults to `4`): `"best_of_n"`: chunks among which the critics
            choose when acting.
        num_target_samples (`int`, *optional*, defaults to `8`): With `value_target` `"actor"`: chunks of the
            next state in a value target of `"best_of_n"` and `"awr"`; and of the state in an advantage.
        weighted_cloning (`bool`, *optional*, defaults to `True`): `"distill"` and `"best_of_n"`: weight what
            the flow, or `actor`, clones by its advantage, as `"awr"` always does; False clones all alike, as
            published.
        inverse_temperature (`float`, *optional*, defaults to `5.0`): Weight of a chunk is the exponential of
            this times its advantage, values being in units of the largest; at most 100. Cloning everything
            (`cloned_return` 0) takes 40.
        return_share (`float`, *optional*, defaults to `1.0`): In an advantage, what a logged chunk came to
            is, to this share, what its episode earned from there on (AWR); the rest is the critics' target.
            1 filters by whole episodes, 0 also joins good parts of different ones and needs truer values.
        cloned_return (`float`, *optional*, defaults to `0.5`): What learns values clones the chunks of the
            episodes whose return is at least so far from the worst (0: all of them) to the best (1); where
            success alone is rewarded, 0.5 clones what succeeded. Values learn from all.
        filter_share (`float`, *optional*, defaults to `0.3`): `"filtered_bc"`: share of the episodes, those
            with the largest returns, that are imitated.
        tau (`float`, *optional*, defaults to `0.02`): How far the target critics move at each step.
        actor_ema (`float`, *optional*, defaults to `0.995`): Share of the actor's average that stays at each
            step; the average is what acts. 0 keeps no average, which saves memory with a large `actor`.
        optimizer_lr (`float`, *optional*, defaults to `3e-4`): Learning rate of the flow policy.
        optimizer_critic_lr (`float`, *optional*, defaults to `3e-4`): Learning rate of the critics.
        optimizer_weight_decay (`float`, *optional*, defaults to `0.0`): Weight decay of the flow policy;
            critics have none.
        optimizer_clip_norm (`float`, *optional*, defaults to `10.0`): Largest gradient norm of each group of
            networks by itself; 0 does not clip.
    """

    # What is learned.
    extraction: str = "distill"
    actor: ActorConfig | None = None
    actor_lora_rank: int = 0
    freeze_actor: bool = False

    # Inputs.
    normalization_mapping: dict[str, NormalizationMode] = field(default_factory=_default_normalization)
    image_size: tuple[int, int] = (96, 96)
    vision_backbone: str = "small"
    image_feature_dim: int = 64
    obs_feature_dim: int = 128
    random_shift: int = 4

    # Actions.
    chunk_size: int = 8
    n_action_steps: int = 4

    # Networks.
    flow_steps: int = 5
    actor_hidden_dim: int = 256
    actor_hidden_layers: int = 3
    transformer_dim: int = 128
    transformer_layers: int = 2
    transformer_heads: int = 4
    hidden_dim: int = 256
    hidden_layers: int = 2

    # Values.
    discount: float = 0.97
    reward_source: str = "next.reward"
    terminal_mode: str = "auto"
    n_critics: int = 2
    critic_layer_norm: bool = True
    aggregation: str = "mean"
    kappa: float = 1.0
    value_target: str = "data"
    expectile: float = 0.9
    bootstrap_probability: float = 1.0

    # Extraction.
    alpha: float = 100.0
    normalize_q: bool = True
    distill_every: int = 2
    bc_weight: float = 1.0
    num_samples: int = 4
    num_target_samples: int = 8
    weighted_cloning: bool = True
    inverse_temperature: float = 5.0
    return_share: float = 1.0
    cloned_return: float = 0.5
    filter_share: float = 0.3

    # Optimisation.
    tau: float = 0.02
    actor_ema: float = 0.995
    optimizer_lr: float = 3e-4
    optimizer_critic_lr: float = 3e-4
    optimizer_weight_decay: float = 0.0
    optimizer_clip_norm: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        # The checkpoint, and revision, that the actor came from; until then its own `pretrained_path`.
        self.origin: tuple[str, str | None] | None = None
        for name in (
            "n_action_steps", "n_critics", "hidden_layers", "hidden_dim", "obs_feature_dim", "flow_steps",
            "actor_hidden_dim", "actor_hidden_layers", "transformer_layers", "transformer_heads",
            "num_samples", "num_target_samples", "distill_every",
        ):  # fmt: skip
            self._require(name, getattr(self, name) >= 1, "must be at least 1")
        self._require("image_feature_dim", self.image_feature_dim >= 16, "must be at least 16")
        self._require("transformer_dim", self.transformer_dim >= 16, "must be at least 16")
        self._require("filter_share", 0.0 < self.filter_share <= 1.0, "must lie in (0, 1]; it is a share")
        self._require("cloned_return", 0.0 <= self.cloned_return <= 1.0, "must lie in [0, 1], worst to best")
        self._require("bootstrap_probability", 0.0 < self.bootstrap_probability <= 1.0, "must lie in (0, 1]")
        self._require("expectile", 0.5 <= self.expectile < 1.0, "must lie in [0.5, 1)")
        self._require("return_share", 0.0 <= self.return_share <= 1.0, "must lie in [0, 1]; it is a share")
        self._require("tau", 0.0 < self.tau <= 1.0, "must lie in (0, 1]; 1 has no target networks")
        self._require("actor_ema", 0.0 <= self.actor_ema < 1.0, "must lie in [0, 1); 0 keeps no average")
        for name in (
            "kappa", "alpha", "bc_weight", "inverse_temperature", "random_shift", "optimizer_clip_norm",
            "actor_lora_rank",
        ):  # fmt: skip
            self._require(name, getattr(self, name) >= 0, "must not be negative")
        self._require_choices(
            {
                "extraction": EXTRACTIONS,
                "aggregation": AGGREGATIONS,
                "value_target": VALUE_TARGETS,
                "vision_backbone": BACKBONES,
            }
        )
        self._require_sizes()
        self._check_sizes()
        self._check_actor()

    @property
    def learns_values(self) -> bool:
        """Whether critics are learned, so that rewards and the next observation are needed."""
        return self.extraction in ("distill", "best_of_n", "awr")

    @property
    def weighs(self) -> bool:
        """Whether what is cloned is weighted by advantage."""
        return self.extraction == "awr" or (self.learns_values and self.weighted_cloning)

    @property
    def other_actor(self) -> PreTrainedConfig | None:
        """The configuration of another policy that is the actor, if one is."""
        return self.actor  # type: ignore[return-value]

    @property
    def observation_delta_indices(self) -> list[int]:
        """The observations that actor and critics look at, now and, to learn values, a chunk later."""
        seen = _frames(self.other_actor, "observation_delta_indices", [0])
        return sorted(
            {0, *seen} | ({self.chunk_size + k for k in (0, *seen)} if self.learns_values else set())
        )

    @property
    def action_delta_indices(self) -> list[int]:
        """The chunks of actor and critics."""
        return sorted({*range(self.chunk_size), *_frames(self.other_actor, "action_delta_indices", [])})

    def _check_sizes(self) -> None:
        if self.transformer_dim % self.transformer_heads:
            raise ValueError(
                f"`transformer_heads` ({self.transformer_heads}) must divide `transformer_dim` "
                f"({self.transformer_dim}); choose a multiple."
            )

    def _check_actor(self) -> None:
        if self.actor is None:
            for name in ("actor_lora_rank", "freeze_actor"):
                if getattr(self, name):
                    raise ValueError(
                        f"`{name}` ({getattr(self, name)}) is for another policy as the actor; name one with "
                        "`--policy.actor.type=…`."
                    )
            return
        if not isinstance(self.actor, PreTrainedConfig) or isinstance(self.actor, QChunkingConfig):
            raise ValueError(
                f"`actor` ({type(self.actor).__name__}) must be the configuration of another policy."
            )
        if self.extraction not in ("best_of_n", "awr"):
            remedy = (
                "the one-step actor is drawn to this package's own flow; set `--policy.extraction` to "
                "best_of_n or awr"
                if self.extraction == "distill"
                else f"train it by itself with `--policy.type={self.actor.type}`"
            )
            raise ValueError(
                f"`extraction` {self.extraction!r} does not go with the actor {self.actor.type!r}: {remedy}."
            )
        if self.freeze_actor and self.extraction == "awr":
            raise ValueError("`freeze_actor` leaves `extraction` 'awr' nothing to train; set best_of_n.")
        self.actor = _from_checkpoint(self.actor)  # type: ignore[assignment]
        actor = self.actor
        if getattr(actor, "use_relative_actions", False):
            raise ValueError(
                f"the actor {actor.type!r} has `use_relative_actions`, and critics need the actions of a "
                "chunk in one frame; set `--policy.actor.use_relative_actions=false`."
            )
        length = sum(frame >= 0 for frame in _frames(actor, "action_delta_indices", []))
        if length < self.chunk_size:
            raise ValueError(
                f"`chunk_size` ({self.chunk_size}) must not exceed the {length} actions of the actor's chunk."
            )
        actor.device = self.device
        self.normalization_mapping = dict(getattr(actor, "normalization_mapping", self.normalization_mapping))


def _frames(actor: PreTrainedConfig | None, name: str, otherwise: list[int]) -> list[int]:
    """One of an actor's delta indices; `otherwise` without actor or indices."""
    found = getattr(actor, name) if actor is not None else None
    return list(otherwise if found is None else found)


def _from_checkpoint(actor: Any) -> Any:
    """The configuration of the checkpoint that `actor` names, with the fields that `actor` sets otherwise.

    Raises:
        ValueError: The checkpoint is of another type.
    """
    if actor.pretrained_path is None:
        return actor
    stored = PreTrainedConfig.from_pretrained(actor.pretrained_path, revision=actor.pretrained_revision)
    if type(stored) is not type(actor):
        raise ValueError(
            f"`actor.pretrained_path` ({actor.pretrained_path}) is a {stored.type}; set "
            f"`--policy.actor.type={stored.type}`."
        )
    for item in fields(actor):
        value = getattr(actor, item.name)
        usual = item.default_factory() if item.default_factory is not MISSING else item.default
        if value != usual and item.name not in ("device", "use_amp"):
            setattr(stored, item.name, deepcopy(value))
    return stored
