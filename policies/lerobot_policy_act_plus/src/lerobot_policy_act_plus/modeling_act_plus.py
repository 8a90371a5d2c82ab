# SPDX-License-Identifier: Apache-2.0
"""ACT+: stock ACT with real-time chunking, instructions, depth, advantage weighting and a flow head as flags.

Paper: "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware" (Zhao et al., 2023),
https://huggingface.co/papers/2304.13705; the code underneath is LeRobot's ACT, which this composes. Each part
names its own source.

Differences from the reference (LeRobot 0.6.1's ACT): none with all flags at their defaults, except that a
negative `temporal_ensemble_coeff` and depth cameras without `depth_fusion` are refused.

Legend: `B` batch or robots, `T` chunk, `A` action width, `S` state width.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE
from torch import Tensor
from torch.nn import functional as F

from lerobot_ext.nn.left_over import left_over_actions

from .configuration_act_plus import ActPlusConfig
from .ensemble import ChunkEnsembler, blended, joined
from .flow import draw_times, integrate, towards
from .losses import divergence, masked_error
from .network import ActPlusNetwork, Memory, Prefix
from .prefix import draw_prefix, last_committed
from .relative import moved, relative_scale

logger = logging.getLogger(__name__)


class ActPlusPolicy(ACTPolicy):
    """The policy as LeRobot sees it: batches in, a loss or actions out.

    Args:
        config (`ActPlusConfig`): Configuration with features.
        dataset_stats (`dict`, *optional*): LeRobot's statistics; depth masks and relative actions need them.
        dataset_meta (`LeRobotDatasetMetadata`, *optional*): Tells the tasks for `task_conditioning="index"`.
    """

    config_class = ActPlusConfig
    name = "act_plus"
    _fsdp_wrap_modules: tuple[str, ...] = ("ACTEncoderLayer", "ACTDecoderLayer")

    config: ActPlusConfig
    relative_scale: Tensor

    def __init__(
        self,
        config: ActPlusConfig,
        dataset_stats: dict[str, dict[str, Any]] | None = None,
        dataset_meta: Any | None = None,
        **kwargs: Any,
    ) -> None:
        super(ACTPolicy, self).__init__(config)  # past stock ACT's, which builds its own network
        if config.input_features:
            # A label, not a sensor: it is neither normalised nor there when the policy acts.
            config.input_features.pop(config.advantage_key, None)
        config.validate_features()
        if config.task_conditioning == "index" and not config.task_names and dataset_meta is not None:
            config.task_names = [str(task) for task in dataset_meta.tasks.index]
        self.model = ActPlusNetwork(config)
        config.backbone_weights = None  # read; from now on the checkpoint has them
        if config.use_relative_actions:
            self.register_buffer("relative_scale", torch.full(config.action_feature.shape, torch.nan))
        self._dataset_stats = dataset_stats
        self._set_statistics()
        self._said: set[str] = set()
        self.reset()

    def _set_statistics(self) -> None:
        if not self._dataset_stats:
            return
        self.model.set_statistics(self._dataset_stats)
        if self.config.use_relative_actions:
            self.relative_scale.copy_(relative_scale(self.config, self._dataset_stats))

    @classmethod
    def _load_as_safetensor(
        cls, model: ActPlusPolicy, model_file: str, map_location: str, strict: bool
    ) -> ActPlusPolicy:
        """Load weights; given statistics (training on a dataset) replace those of the checkpoint."""
        loaded: ActPlusPolicy = super()._load_as_safetensor(model, model_file, map_location, strict)
        loaded._set_statistics()
        return loaded

    # ---- training ------------------------------------------------------------------------------------------

    def forward(self, batch: dict[str, Any], reduction: str = "mean") -> tuple[Tensor, dict[str, float]]:
        """The loss of a preprocessed batch.

        Args:
            batch (`dict[str, Any]`): As the trainer gives it.
            reduction (`str`, *optional*, defaults to `"mean"`): `"none"` for one loss a sample, (B,), as
                LeRobot's sample weighting asks for.

        Returns:
            `tuple[Tensor, dict[str, float]]`: Loss and what the trainer logs.

        Raises:
            ValueError: If the batch lacks the advantages.
        """
        if self.config.is_stock and reduction == "mean":
            found: tuple[Tensor, dict[str, float]] = super().forward(batch)
            return found
        losses = self._losses(batch)
        weights = {"kld_loss": self.config.kl_weight}
        total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum(0)
        means = torch.stack([loss.detach().mean() for loss in losses.values()]).tolist()
        return (total if reduction == "none" else total.mean()), dict(zip(losses, means, strict=True))

    def _losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Each loss, (B,)."""
        actions = batch[ACTION]
        size, chunk = actions.shape[:2]
        counted = free = drafted = ~batch["action_is_pad"]
        memory = self._encode_training(batch)
        prefix = None
        if self.config.prefix_steps:
            committed = draw_prefix(size, self.config.prefix_steps, chunk, actions.device)
            prefix = Prefix(actions, committed)
            free, drafted = counted & ~committed, counted & (~committed | last_committed(committed))
        losses = {}
        if self.config.head == "l1" or self.config.flow_start == "draft":
            draft = self.model.action_head(self.model.decode(memory, prefix))
            losses["l1_loss"] = masked_error(F.l1_loss(draft, actions, reduction="none"), drafted)
        if self.config.head == "flow":
            losses["flow_loss"] = self._flow_loss(memory, prefix, actions, free)
        if memory.mu is not None and memory.log_sigma_x2 is not None:
            losses["kld_loss"] = divergence(memory.mu, memory.log_sigma_x2)
        return losses

    def _flow_loss(self, memory: Memory, prefix: Prefix | None, actions: Tensor, free: Tensor) -> Tensor:
        """The loss (B,) of those actions (B, T, A) that are `free` (B, T).

        Of each sample the mean of `flow_draws` noises and times, which share what the encoder made of it.
        """
        draws, size = self.config.flow_draws, len(actions)
        if draws > 1:
            memory, prefix = memory.repeated(draws), None if prefix is None else prefix.repeated(draws)
            actions, free = actions.repeat(draws, 1, 1), free.repeat(draws, 1)
        time, noise = draw_times(len(actions), actions.device), torch.randn_like(actions)
        share = time[:, None, None]
        hidden = self.model.decode(memory, prefix, share * noise + (1 - share) * actions, time)
        wanted = actions if self.config.flow_target == "actions" else noise - actions
        error = (self.model.flow_head(hidden) - wanted).square()
        return masked_error(error, free).view(draws, size).mean(0)

    def _encode_training(self, batch: dict[str, Any]) -> Memory:
        if self.config.is_stock:
            return self.model.encode(batch)
        if self.config.advantage == "none":
            return self.model.encode(batch)
        key = self.config.advantage_key
        if key not in batch:
            raise ValueError(
                f"the batch has no `{key}`, which `advantage` ({self.config.advantage!r}) needs; write that "
                "column into "
                "the dataset, or name another with `--policy.advantage_key`."
            )
        advantage = batch[key].reshape(len(batch[ACTION]), -1)[:, 0]
        shown = torch.rand(len(advantage), device=advantage.device) >= self.config.advantage_dropout
        return self.model.encode(batch, advantage, shown)

    # ---- acting --------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the episode: queued actions, what is left of the last chunk, and the ensemble."""
        self._action_queue: deque[Tensor] = deque(maxlen=self.config.n_action_steps)
        self._left: Tensor | None = None
        self._anchor: Tensor | None = None
        self._ensembler: ChunkEnsembler | None = None
        if self.config.temporal_ensemble_coeff is not None:
            self._ensembler = ChunkEnsembler(
                self.config.temporal_ensemble_coeff, self.config.chunk_size, self.config.n_action_steps
            )

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        """Return the next action (B, A), planning a new chunk when the last one's actions are spent."""
        self.eval()
        if not self._action_queue:
            self._action_queue.extend(self._next_actions(batch).unbind(1))
        action = self._action_queue.popleft()
        if self._anchor is not None:
            action = moved(action, self._anchor, batch[OBS_STATE], self.relative_scale)
        return action

    def _next_actions(self, batch: dict[str, Any]) -> Tensor:
        """(B, n_action_steps, A) of a new chunk."""
        state, steps = batch[OBS_STATE], self.config.n_action_steps
        if self.config.use_relative_actions:
            if self.relative_scale.isnan().any():
                raise ValueError(
                    "`use_relative_actions` needs the dataset's statistics; build the policy with "
                    "`dataset_stats`, or load "
                    "a trained checkpoint."
                )
            if self._anchor is not None:
                self._retell(self._anchor, state)
            self._anchor = state
        chunk = self._plan(batch, self._left, delay=0)
        if self._ensembler is not None:
            return self._ensembler.update(chunk)
        self._left = chunk[:, steps:] if steps < chunk.shape[1] else None
        return chunk[:, :steps]

    def _retell(self, before: Tensor, now: Tensor) -> None:
        """Tell what is left of earlier chunks relative to where the arm is now."""
        if self._left is not None:
            self._left = moved(self._left, before, now, self.relative_scale)
        ensemble = self._ensembler
        if ensemble is not None and ensemble.ensembled_actions is not None:
            ensemble.ensembled_actions = moved(ensemble.ensembled_actions, before, now, self.relative_scale)

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Any],
        inference_delay: int | None = None,
        prev_chunk_left_over: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Plan a whole chunk; the first action belongs to the newest observation.

        Args:
            batch (`dict[str, Any]`): Preprocessed observations.
            inference_delay (`int`, *optional*): Frames until the chunk will be executed; so many actions of
                the running chunk are kept, and the rest is planned to continue them.
            prev_chunk_left_over (`Tensor`, *optional*): (T, A) actions left of the running chunk.
            **kwargs (`Any`): Ignored; LeRobot may offer noise.

        Returns:
            `Tensor`: (B, chunk_size, A) in the normalised action space.
        """
        self.eval()
        left = left_over_actions(prev_chunk_left_over, self.config.chunk_size)
        return self._plan(batch, left, inference_delay or 0)

    def supports_rtc(self) -> bool:
        """Whether `lerobot-rollout --inference.type=rtc` works: where something makes chunks join."""
        return max(self.config.prefix_steps, self.config.join_steps, self.config.blend_steps) > 0

    def _plan(self, batch: dict[str, Any], left: Tensor | None, delay: int) -> Tensor:
        """A chunk (B, T, A) that keeps the first actions of what is `left` (B, N, A) and continues them."""
        if left is None or not self.supports_rtc():
            return self._sample(batch, None)
        keep = min(max(delay, self.config.commit_steps), left.shape[1])
        told = min(keep, self.config.prefix_steps)
        if keep > told and self.config.prefix_steps:
            self._say_once(
                f"act_plus: planning takes {keep} frames, but the policy was trained with `prefix_steps` "
                f"{self.config.prefix_steps}: chunks may not join. Train with a larger one."
            )
        chunk = self._sample(batch, left[:, :told] if told else None)
        if self.config.join_steps:
            chunk = joined(chunk, left.expand(len(chunk), -1, -1), keep, self.config.join_steps)
        if keep:
            chunk = torch.cat([left[:, :keep].to(chunk).expand(len(chunk), -1, -1), chunk[:, keep:]], dim=1)
        if self.config.blend_steps:
            chunk = blended(chunk, left.expand(len(chunk), -1, -1), keep, self.config.blend_steps)
        return chunk

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            logger.warning(message)

    def _sample(self, batch: dict[str, Any], committed: Tensor | None) -> Tensor:
        """A chunk (B, T, A) of the network that continues the `committed` (B, n, A) actions."""
        if self.config.is_stock:
            if self.config.image_features:
                batch = {**batch, OBS_IMAGES: [batch[key] for key in self.config.image_features]}
            stock: Tensor = self.model(batch)[0]
            return stock
        memories = self._encode_acting(batch)
        prefix = None if committed is None else self._prefix(committed, len(batch[OBS_STATE]))

        def draft(memory: Memory) -> Tensor:
            actions: Tensor = self.model.action_head(self.model.decode(memory, prefix))
            return actions

        if self.config.head == "l1":
            return self._guided([draft(memory) for memory in memories])
        return self._flow(memories, prefix, draft)

    def _flow(
        self, memories: list[Memory], prefix: Prefix | None, draft: Callable[[Memory], Tensor]
    ) -> Tensor:
        """Integrate the flow from noise, or from the L1 head's draft with some noise."""
        size = memories[0].tokens.shape[1]
        shape = (size, self.config.chunk_size, *self.config.action_feature.shape)
        start, time = (
            torch.randn(shape, device=memories[0].tokens.device, dtype=memories[0].tokens.dtype),
            1.0,
        )
        if self.config.flow_start == "draft":
            time = self.config.draft_noise
            start = torch.lerp(self._guided([draft(memory) for memory in memories]), start, time)

        def velocity(noisy: Tensor, now: Tensor) -> Tensor:
            said = self._guided(
                [self.model.flow_head(self.model.decode(m, prefix, noisy, now)) for m in memories]
            )
            return towards(noisy, said, now) if self.config.flow_target == "actions" else said

        return integrate(velocity, start, time, self.config.flow_steps, self.config.flow_solver)

    def _encode_acting(self, batch: dict[str, Any]) -> list[Memory]:
        """What the decoder looks at; twice, with and without the advantage, where guidance needs both."""
        if self.config.advantage == "none":
            return [self.model.encode(batch)]
        state = batch[OBS_STATE]
        wanted = state.new_full((len(state),), self.config.advantage_target)
        shown = torch.ones(len(state), dtype=torch.bool, device=state.device)
        memories = [self.model.encode(batch, wanted, shown)]
        if self.config.guidance != 1.0:
            memories.append(self.model.encode(batch, wanted, ~shown))
        return memories

    def _guided(self, outputs: list[Tensor]) -> Tensor:
        """Classifier-free guidance from the output without the advantage, the second one, to the first."""
        if len(outputs) == 1:
            return outputs[0]
        told, untold = outputs
        return torch.lerp(untold, told, self.config.guidance)

    def _prefix(self, committed: Tensor, size: int) -> Prefix:
        actions = committed.new_zeros(size, self.config.chunk_size, committed.shape[-1])
        actions[:, : committed.shape[1]] = committed
        mask = torch.zeros(actions.shape[:2], dtype=torch.bool, device=actions.device)
        mask[:, : committed.shape[1]] = True
        return Prefix(actions, mask)
