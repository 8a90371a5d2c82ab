# SPDX-License-Identifier: Apache-2.0
"""Q-chunking: reinforcement learning with critics of whole chunks, over a policy that samples them.

Li, Zhou, Levine, 2025, "Reinforcement Learning with Action Chunking", https://arxiv.org/abs/2507.07969.
Reference: github.com/ColinQiyangLi/qc. A flow policy learns the chunks of the logs; critics value a whole
chunk and so bootstrap a chunk ahead without bias. The policy is then the sample that the critics like best
(`best_of_n`, QC), or a one-step actor that is drawn to the flow and raises the critics' value (`distill`,
QC-FQL; Park et al., 2025, "Flow Q-Learning", https://arxiv.org/abs/2502.02538), or a flow weighted by
advantage (`awr`).

Differences from the reference:
- ends by a time limit are no terminals, and a chunk that a terminal state ends counts; values are in units of
  the largest and clamped to what the dataset's rewards allow;
- one optimizer, with the actor's gradient taken through a frozen critic;
- one encoder for flow and one-step actor, with cameras learned by the flow alone, another for the critics;
  smaller networks;
- the flow's network sees the chunk behind the noise, and its velocity points there, instead of being the
  network's output, which learns precise chunks in fewer steps;
- the value is normalised by default, so that `alpha` 100 does not depend on the scale of the rewards;
- by default values come from the logs alone (IQL; Kostrikov et al., 2021, https://arxiv.org/abs/2110.06169)
  and the flow is weighted by advantage (AWR; Peng et al., 2019, https://arxiv.org/abs/1910.00177), each
  episode judged by a value network that has not learned from it, because
  values of what the actor would do are true only after many more steps than a CPU makes;
- the critics may learn from different frames each (bootstrap masks), and be read pessimistically;
- a slow average of the actor acts; any LeRobot policy that samples chunks can be the actor.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from torch import Tensor

from lerobot_ext.exporting.protocol import NotExportableError
from lerobot_ext.nn.ema import warm_decay
from lerobot_ext.offline_rl.policy import LearnsFromLogs
from lerobot_ext.offline_rl.randomness import StepRandomness
from lerobot_ext.offline_rl.routing import parameter_group
from lerobot_ext.offline_rl.targets import make_target, soft_update

from .borrowed import Borrowed, build_actor, optimizer_groups, stock_actor
from .configuration_q_chunking import QChunkingConfig
from .critic import ChunkCritic
from .flow import FlowActor
from .objective import Objective
from .windows import Windows


class QChunkingPolicy(LearnsFromLogs, PreTrainedPolicy):
    """The policy as LeRobot sees it: batches in, a loss or actions out.

    Args:
        config (`QChunkingConfig`): Configuration with features.
        dataset_stats (`dict`, *optional*): LeRobot's statistics; the range of the rewards bounds the values
            where the dataset's episodes cannot be read.
        dataset_meta (`LeRobotDatasetMetadata`, *optional*): Tells where the dataset is; its rewards and ends
            are read from there.
        **kwargs: What else LeRobot's factory may hand over; unused.

    Raises:
        ValueError: If the features do not suit the policy, or the dataset lacks a column that `reward_source`
            or `terminal_mode` names.
    """

    config_class = QChunkingConfig
    name = "q_chunking"
    _fsdp_wrap_modules: tuple[str, ...] = ("EnsembleMLP", "MLP", "TransformerBlock")

    train_step: Tensor

    def __init__(
        self,
        config: QChunkingConfig,
        dataset_stats: dict[str, dict[str, Any]] | None = None,
        dataset_meta: Any | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config)
        config.validate_features()
        self.config: QChunkingConfig = config
        self.actor: FlowActor | PreTrainedPolicy
        self._borrowed: Borrowed | None = None
        if config.other_actor is None:
            self.actor = FlowActor(config)
        else:
            self.actor = build_actor(config, dataset_stats, dataset_meta)
            self._borrowed = Borrowed(self.actor.config, config.chunk_size)
        self.actor_ema = make_target(self.actor) if config.actor_ema and not config.freeze_actor else None
        self.critic = ChunkCritic(config) if config.learns_values else None
        self.critic_target = make_target(self.critic) if self.critic is not None else None
        self._fsdp_wrap_modules = self._wrapped()
        self.register_buffer("train_step", torch.zeros((), dtype=torch.long))
        self._read_labels(dataset_stats, dataset_meta)
        self._objective = Objective(
            config,
            self.actor,
            self.critic,
            self.critic_target,
            self.labels,
            Windows(config.observation_delta_indices, config.action_delta_indices, config.chunk_size),
            self._borrowed,
        )
        self._randomness = StepRandomness()
        self._actions: deque[Tensor] = deque(maxlen=config.n_action_steps)
        self._seen: deque[dict[str, Any]] = deque(maxlen=self._memory_length())

    # ---- training ----------------------------------------------------------------------------------------

    def get_optim_params(self) -> list[dict[str, Any]]:
        """Actor and critics, each with its own learning rate and clipping."""
        cfg, clip = self.config, self.config.optimizer_clip_norm
        if isinstance(self.actor, FlowActor):
            heads = [self.actor.one_step] if self.actor.one_step is not None else []
            groups = [
                parameter_group([self.actor.flow], cfg.optimizer_lr, clip_norm=clip),
                parameter_group(heads, cfg.optimizer_lr, clip_norm=clip),
            ]
        else:
            groups = [] if cfg.freeze_actor else optimizer_groups(self.actor, clip)
        critics = [self.critic] if self.critic is not None else []
        groups.append(parameter_group(critics, cfg.optimizer_critic_lr, clip_norm=clip, weight_decay=0.0))
        return [group for group in groups if group["params"]]

    def forward(self, batch: dict[str, Any], reduction: str = "mean") -> tuple[Tensor, dict[str, float]]:
        """Compute the training loss.

        Its number is a sum of losses that pull in different directions: it need not fall. Look at
        `q_of_actor` and `bc_loss`, and rank checkpoints with `lerobot-ext fqe`.

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
        self._check(batch)
        if self.training:
            with self._randomness.of_step(int(self.train_step), batch[ACTION].device):
                losses, said = self._objective.losses(batch, augment=True)
        else:
            losses, said = self._objective.losses(batch, augment=False)
        return losses.reduced(reduction), losses.figures(self.labels.scale) | said

    def _check(self, batch: dict[str, Any]) -> None:
        actions, wanted = batch[ACTION], len(self.config.action_delta_indices)
        if actions.ndim != 3 or actions.shape[1] != wanted:
            raise ValueError(
                f"`action` has shape {tuple(actions.shape)}; training needs {wanted} actions a sample. Build "
                "the dataset with this config's `action_delta_indices`."
            )

    def update(self) -> None:
        """Count an optimizer step, move target critics and averages; LeRobot calls this after each step."""
        decay = warm_decay(self.config.actor_ema, int(self.train_step))
        self.train_step += 1
        self._randomness.advance()
        if self.critic is not None and self.critic_target is not None:
            soft_update(self.critic_target, self.critic, self.config.tau)
        if isinstance(self.actor, PreTrainedPolicy) and not self.config.freeze_actor:
            own = getattr(self.actor, "update", None)
            if callable(own):
                own()
        if self.actor_ema is not None:
            soft_update(self.actor_ema, self.actor, 1.0 - decay)

    # ---- inference ---------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the episode: queued actions, frames that were seen, and what another actor remembers."""
        self._actions.clear()
        self._seen.clear()
        if isinstance(self._acting, PreTrainedPolicy):
            self._acting.reset()

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        """Return the next action, planning a new chunk when the last one's actions are spent.

        Args:
            batch (`dict[str, Any]`): One preprocessed observation a robot, (B, ...).
            **kwargs: Noise that LeRobot may offer; unused.

        Returns:
            `Tensor`: (B, A) in the normalised action space.
        """
        acting = self._acting
        if isinstance(acting, PreTrainedPolicy) and not self._chooses:
            action: Tensor = acting.select_action(batch)  # exactly as it acts by itself
            return action
        if self._borrowed is not None:
            self._seen.append({key: value for key, value in batch.items() if not key.startswith(ACTION)})
        if not self._actions:
            chunk = self.predict_action_chunk(batch)
            self._actions.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        return self._actions.popleft()

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        """Plan a chunk; the first action belongs to the newest observation.

        Args:
            batch (`dict[str, Any]`): A preprocessed observation (B, ...), or a training batch, of which the
                present frame counts.
            **kwargs: What LeRobot may hand over; unused.

        Returns:
            `Tensor`: (B, chunk_size, A) in the normalised action space.
        """
        view = self._objective.windows.of_critics(batch) if _has_time(batch) else batch
        acting = self._acting
        if isinstance(acting, FlowActor):
            condition = acting.observe(view)
            if acting.one_step is not None:
                chunk = acting.leap(condition, acting.noise(condition)).clamp(-1.0, 1.0)
                return chunk.view(-1, *acting.chunk_shape)
            chunks = acting.sample(condition, self._count)
        else:
            assert self._borrowed is not None
            chunks = self._borrowed.sample(acting, self._window(batch), self._count)
        if not self._chooses:
            chunk = chunks[:, 0]
        else:
            assert self.critic_target is not None
            chunk = self.critic_target.best(self.critic_target.observe(view), chunks)
        return chunk.view(len(chunk), self.config.chunk_size, -1)

    def _window(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The frames that another actor looks at, from a training batch or from those that were seen."""
        assert self._borrowed is not None
        frames = self._borrowed.acting
        if _has_time(batch):
            return self._objective.windows.of_actor(batch, frames, self._borrowed.actions)
        if frames is None:
            return batch
        seen = list(self._seen) or [batch]
        # Before the first frame of an episode lies the first one.
        chosen = [seen[max(0, len(seen) - 1 + frame)] for frame in frames]
        keys = self.config.input_features or {}
        return {
            key: torch.stack([one[key] for one in chosen], dim=1) if key in keys else value
            for key, value in chosen[-1].items()
        }

    @torch.no_grad()
    def observation_features(self, batch: dict[str, Any]) -> Tensor:
        """(B, D) of an observation; `lerobot-ext fqe` tells states apart by it."""
        view = self._objective.windows.of_critics(batch) if _has_time(batch) else batch
        if self.critic_target is not None:
            return self.critic_target.observe(view)
        assert isinstance(self._acting, FlowActor)
        return self._acting.observe(view).features

    @property
    def _acting(self) -> FlowActor | PreTrainedPolicy:
        """What acts: the average where there is one."""
        return self.actor if self.actor_ema is None else self.actor_ema

    @property
    def _count(self) -> int:
        return self.config.num_samples if self.config.extraction == "best_of_n" else 1

    @property
    def _chooses(self) -> bool:
        """Whether the critics choose what is done."""
        return self._count > 1

    def _memory_length(self) -> int:
        if self._borrowed is None or not self._borrowed.acting:
            return 1
        return 1 - min(self._borrowed.acting)

    # ---- export ------------------------------------------------------------------------------------------

    def stock_policy(self) -> PreTrainedPolicy:
        """The actor alone, as an instance of LeRobot's class; see `lerobot_ext.exporting.protocol`.

        Raises:
            NotExportableError: There is no such class, or the critics take part in acting.
        """
        acting = self._acting
        if isinstance(acting, PreTrainedPolicy):
            return stock_actor(acting, self.config)
        raise NotExportableError(
            "this policy's own flow is no class of LeRobot's",
            "train with --policy.actor.type=diffusion (or pi0, smolvla) and --policy.extraction=awr, or run "
            "it where lerobot_policy_q_chunking is installed",
        )

    def _wrapped(self) -> tuple[str, ...]:
        """Names of the modules that FSDP shards one by one, of those that are there."""
        names = list(self._fsdp_wrap_modules)
        if isinstance(self.actor, PreTrainedPolicy):
            names += list(getattr(self.actor, "_fsdp_wrap_modules", None) or ())
        built = {type(module).__name__ for module in self.modules()}
        return tuple(name for name in dict.fromkeys(names) if name in built)


def _has_time(batch: dict[str, Any]) -> bool:
    """Whether a batch has frames along an axis of time, as in training."""
    return any(key.startswith("observation.") and key.endswith("_is_pad") for key in batch)
