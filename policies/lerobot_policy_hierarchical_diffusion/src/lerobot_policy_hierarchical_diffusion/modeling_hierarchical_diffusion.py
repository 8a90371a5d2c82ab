# SPDX-License-Identifier: Apache-2.0
"""Hierarchical diffusion policy: four self-supervised layers condition one denoiser.

`L = L_diffusion(c) + Σ_l w_l · s_l · L_l` with `c = [posture ; Σ_l m_l · W_l LN(h_l) + (1 - m_l) · ∅_l]`. The
layers are safety (the posture is its own), dynamics, manipulation and planning; the manipulation layer's
draft is where denoising starts. Diffusion Policy: Chi et al., 2023, https://arxiv.org/abs/2303.04137.

Differences from Diffusion Policy: the condition holds the layers' features beside the observation; chunks
start at the current frame; the denoiser is a residual MLP by default and predicts the clean chunk; inference
refines a draft in a few DDIM steps.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import OBS_ENV_STATE, OBS_STATE
from torch import Tensor, nn

from lerobot_ext.nn.ema import update_ema, warm_decay

from .batch import episode_bounds, known_action, last_action_of, tasks_of, with_time
from .configuration_hierarchical_diffusion import MAX_INFERENCE_STEPS, HierarchicalDiffusionConfig
from .curriculum import Curriculum, CurriculumStage
from .deadline.planner import TimedPlanner
from .deadline.table import LatencyTable
from .layers.base import Targets
from .loss_weights import LossWeights
from .memory import EpisodeMemory
from .network import HierarchicalDiffusionNetwork, Observation
from .real_time import FrameClock, committed_actions
from .sampling import Committed
from .slow_layers import SlowLayers
from .targets import demonstrated_chunk, episode_progress, future_velocities, tracking_errors

logger = logging.getLogger(__name__)


class HierarchicalDiffusionPolicy(PreTrainedPolicy):
    """The policy as LeRobot sees it: batches in, a loss or actions out.

    Args:
        config (`HierarchicalDiffusionConfig`): Configuration with features.
        dataset_stats (`dict`, *optional*): LeRobot's statistics; they set the limits of the safety filter.
        dataset_meta (`LeRobotDatasetMetadata`, *optional*): Tells the length of the episodes, for the
            progress target.
        **kwargs: What else LeRobot's factory may hand over; unused.

    Raises:
        ValueError: If the features do not suit the policy; see
            `HierarchicalDiffusionConfig.validate_features`.
    """

    config_class = HierarchicalDiffusionConfig
    name = "hierarchical_diffusion"
    _fsdp_wrap_modules: tuple[str, ...] = ("TransformerBlock", "FiLMResidualBlock")

    train_step: Tensor
    curriculum_start: Tensor
    curriculum_id: Tensor

    def __init__(
        self,
        config: HierarchicalDiffusionConfig,
        dataset_stats: dict[str, dict[str, Any]] | None = None,
        dataset_meta: Any | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config)
        config.validate_features()
        if dataset_meta is not None:
            config.fps = float(dataset_meta.fps)
        self.config: HierarchicalDiffusionConfig = config
        self.network = HierarchicalDiffusionNetwork(config)
        # The U-Net has no blocks of the MLP's kind; a name that is not there stops sharded training.
        built = {type(module).__name__ for module in self.network.modules()}
        self._fsdp_wrap_modules = tuple(name for name in self._fsdp_wrap_modules if name in built)
        self._dataset_stats = dataset_stats
        if dataset_stats:
            self.network.set_statistics(dataset_stats)
        self.register_buffer("train_step", torch.zeros((), dtype=torch.long))
        self._calls_in_step = 0
        self.loss_weights = LossWeights(
            config.layers, config.layer_weights, config.task_weights, learned=config.learned_loss_weights
        )
        self._curriculum = Curriculum(config.curriculum, config.layers)
        self._stage = -1
        # The step at which this curriculum began, and which one that was: another one begins when it comes.
        self.register_buffer("curriculum_start", torch.zeros((), dtype=torch.long))
        self.register_buffer("curriculum_id", torch.tensor(_fingerprint(config.curriculum)))
        if config.curriculum:
            self._enter_stage(0)
        self.average: HierarchicalDiffusionNetwork | None = None
        if config.ema_decay > 0:
            self.average = deepcopy(self.network).requires_grad_(False)
            self.register_load_state_dict_pre_hook(_start_missing_average)
        self._episodes = episode_bounds(dataset_meta)
        self._enabled = frozenset(config.layers)
        self._slow = SlowLayers({"planning": config.planning_interval})
        self._planner = TimedPlanner(None, config.num_inference_steps)
        self._clock = FrameClock(config.fps)
        self._memory = EpisodeMemory(self.network.window, config.n_obs_steps)
        self._actions: deque[Tensor] = deque(maxlen=config.n_action_steps)
        self.last_info: dict[str, Any] = {}
        self.reset()

    # ---- training
    # --------------------------------------------------------------------------------------------------

    def get_optim_params(self) -> list[dict[str, Any]]:
        """Two groups: matrices with the preset's weight decay; everything else without."""
        embeddings = {id(m.weight) for m in self.network.modules() if isinstance(m, nn.EmbeddingBag)}
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            matrix = parameter.ndim > 1 and name.endswith(("weight", "weight_ih_l0", "weight_hh_l0"))
            (decayed if matrix and id(parameter) not in embeddings else plain).append(parameter)
        # A group's own option reaches AdamW although LeRobot's preset has no field for it; one fused pass
        # over the weights takes a third of the default's time on a CPU.
        plain += self.loss_weights.parameters()
        return [
            {"params": decayed, "fused": True},
            {"params": plain, "fused": True, "weight_decay": 0.0},
        ]

    def forward(self, batch: dict[str, Any], reduction: str = "mean") -> tuple[Tensor, dict[str, float]]:
        """Compute the training loss.

        In `eval()` the averaged weights are used, without dropout: the loss of the policy that will be
        deployed.

        Args:
            batch (`dict[str, Any]`): A preprocessed batch with the frames of
                `config.observation_delta_indices` and the actions of `config.action_delta_indices`.
            reduction (`str`, *optional*, defaults to `"mean"`): `"mean"` for a scalar, `"none"` for one loss
                a sample.

        Returns:
            `tuple[Tensor, dict[str, float]]`: The loss, () or (B,), and the parts for the log.

        Raises:
            ValueError: If `reduction` is unknown, or the batch has not the frames that training needs.
        """
        if reduction not in ("mean", "none"):
            raise ValueError(f"`reduction` ({reduction!r}) must be 'mean' or 'none'.")
        network = self._network
        observation = self.observation_from_batch(batch)
        offsets, given = list(network.window.offsets), observation.state.shape[1]
        if given != len(offsets):
            raise ValueError(
                f"`{OBS_STATE}` has {given} frames; training needs the {len(offsets)} at "
                f"{offsets}. Build the dataset with this config's `observation_delta_indices`."
            )
        frames = network.frames(observation)
        targets = self.targets(batch, frames)
        if self.training:
            with self._step_randomness(frames.device):
                losses = network.losses(observation, frames, targets)
        else:
            losses = network.losses(observation, frames, targets)
            if network is not self.network:  # the threshold that these frames give is saved with both
                self.network.filter.threshold.copy_(network.filter.threshold)
        weights = self.loss_weights.of(observation.tasks, batch.get("task_index"))
        total = losses["diffusion"] + self.loss_weights(losses, weights, network.stage_weights)
        return (total if reduction == "none" else total.mean()), self._log(losses, weights)

    def _log(self, losses: dict[str, Tensor], weights: Tensor) -> dict[str, float]:
        """What the trainer logs: plain floats, fetched from the device at once."""
        used = weights.mean(0) * self.network.stage_weights
        if self.loss_weights.log_variance is not None:
            used = used * (-self.loss_weights.log_variance.detach()).exp()
        means = torch.stack([*(loss.detach().mean() for loss in losses.values()), *used]).tolist()
        log = {
            "diffusion_loss" if name == "diffusion" else f"hierarchical/{name}_loss": mean
            for name, mean in zip(losses, means[: len(losses)], strict=True)
        }
        if self.config.curriculum or self.config.task_weights or self.config.learned_loss_weights:
            named = zip(self.config.layers, means[len(losses) :], strict=True)
            log |= {f"hierarchical/{name}_weight": weight for name, weight in named}
        if self.config.curriculum:
            log["hierarchical/stage"] = 1.0 + self._stage
        return log

    def update(self) -> None:
        """Count an optimizer step and move the averaged weights; LeRobot calls this after each step."""
        done = int(self.train_step)
        self.train_step += 1
        self._calls_in_step = 0
        if self.config.curriculum:
            self._enter_stage(done + 1 - int(self.curriculum_start))
        if self.average is not None:
            update_ema(self.average, self.network, warm_decay(self.config.ema_decay, done))

    def _enter_stage(self, step: int) -> None:
        """Let the layers take part as the curriculum says for `step`, its own first one being 0."""
        stage = self._curriculum.stage_at(step)
        if stage != self._stage:
            self._stage = stage
            self._say_stage()
        self.network.stage_weights.copy_(torch.tensor(self._curriculum.weights_at(step)))

    def _say_stage(self) -> None:
        stage = self._curriculum.stages[self._stage]
        logger.info(
            "hierarchical_diffusion: stage %d of %d, %r: %s",
            self._stage + 1,
            len(self._curriculum.stages),
            stage.name,
            ", ".join(stage.layers) or "no layers",
        )

    @contextmanager
    def _step_randomness(self, device: torch.device) -> Iterator[None]:
        """Draw noise and masks from a stream of this step's own.

        A resumed run then sees the randomness of the uninterrupted one, although the data loader has drawn
        from the global stream in between. Calls within a step (gradient accumulation) differ.
        """
        seed = hash((torch.initial_seed(), int(self.train_step), self._calls_in_step)) % 2**63
        self._calls_in_step += 1
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    @property
    def _network(self) -> HierarchicalDiffusionNetwork:
        """The weights in use: the trained ones in training, the averaged ones otherwise."""
        return self.network if self.training or self.average is None else self.average

    def targets(self, batch: dict[str, Any], frames: Tensor) -> Targets:
        """What the layers are to foresee in a training batch, whose frames are from `network.frames`."""
        window, limits = self.network.window, self.network.limits
        actions, valid = demonstrated_chunk(batch, self.config.horizon)
        states_padded = batch.get(f"{OBS_STATE}_is_pad")
        future = frames[:, window.future, : self.network.state_dim]
        tracking = None
        if self.network.action_dim == self.network.state_dim:
            errors = tracking_errors(actions, future, limits.target_scale, limits.target_offset)
            # A joint that never moves has no scale to measure errors in; padding asked for nothing.
            tracking = errors * limits.state_varies * valid[:, : errors.shape[1], None]
        progress = None
        if self._episodes is not None and "index" in batch and "episode_index" in batch:
            starts, ends = (bound.to(actions.device) for bound in self._episodes)
            progress = episode_progress(
                batch["index"].flatten(), batch["episode_index"].flatten(), starts, ends
            )
        return Targets(
            actions=actions,
            actions_valid=valid,
            future=future,
            future_valid=torch.ones_like(future[..., 0], dtype=torch.bool)
            if states_padded is None
            else ~states_padded[:, window.future],
            velocity=future_velocities(frames[:, window.history[-1], : self.network.state_dim], future),
            ahead=frames[:, window.ahead],
            contact=self._contact(batch),
            tracking=tracking,
            progress=progress,
        )

    def _contact(self, batch: dict[str, Any]) -> Tensor | None:
        """Which contacts the next frames have, (B, K, N) of 0 and 1; None where the data tell none."""
        if not self.network.contacts:
            return None
        key = self.config.contact_key
        if batch[key].ndim != 3:
            raise ValueError(
                f"`{key}` has shape {tuple(batch[key].shape)}; training needs its frames, (B, W, contacts)."
            )
        # Normalised or not, a contact is above the middle of its range and none is below.
        told: Tensor = batch[key][:, self.network.window.future] > self.network.contact_middle
        return told.float()

    # ---- inference
    # -------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the episode: observation memory, queued actions and the last information."""
        self._memory.clear()
        self._slow.clear()
        self._clock.reset()
        self._actions.clear()
        self._last_action: Tensor | None = None
        self.last_info = {}

    def set_layer_enabled(self, name: str, enabled: bool) -> None:
        """Switch a layer on or off at inference; its learned null takes its place.

        Args:
            name (`str`): One of the policy's layers; the safety layer always runs.
            enabled (`bool`): Whether it runs.

        Raises:
            ValueError: If `name` is unknown, or is the safety layer and `enabled` is False.
        """
        if name not in self.config.layers:
            has = ", ".join(self.config.layers) or "none"
            raise ValueError(f"`name` ({name!r}) is no layer of this policy; it has: {has}.")
        if name == "safety" and not enabled:
            raise ValueError("the safety layer cannot be switched off; switch off another one.")
        self._enabled = self._enabled | {name} if enabled else self._enabled - {name}

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], noise: Tensor | None = None) -> Tensor:
        """Return the next action, planning a new chunk when the last one's `n_action_steps` are spent.

        Args:
            batch (`dict[str, Any]`): One preprocessed observation a robot, (B, ...).
            noise (`Tensor`, *optional*): (B, horizon, A) starting noise of a new chunk.

        Returns:
            `Tensor`: (B, A) in the normalised action space.

        Raises:
            ValueError: If the number of robots changed without a `reset()`.
        """
        started = time.perf_counter()
        self._memory.append(*self._frame(batch))
        if self._actions and self._network.filter.armed:
            # The safety layer needs neither text nor cameras, so every frame can afford it.
            nothing_told: list[str | None] = [None] * len(batch[OBS_STATE])
            last = known_action(self._last_action)
            remembered = self._memory.observation(nothing_told, last, images=False)
            if self._network.alarm(remembered).any():
                self._actions.clear()  # the plan is over; the new one holds
        if not self._actions:
            chunk = self._plan(batch, noise, None, None, started)
            actions = chunk[:, : self.config.n_action_steps].unbind(1)
            # A robot that holds looks again at the next frame.
            self._actions.extend(actions[:1] if self.last_info["emergency"].any() else actions)
        elif self._network.vision is not None and len(self._actions) < self.config.n_obs_steps:
            # The next plan looks back at this frame; there is time to encode it now.
            self._network.vision.look_ahead([batch[key] for key in self.config.image_features])
        self._last_action = self._actions.popleft()
        return self._last_action

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Any],
        noise: Tensor | None = None,
        num_inference_steps: int | None = None,
        inference_delay: int | None = None,
        prev_chunk_left_over: Tensor | None = None,
    ) -> Tensor:
        """Plan a whole chunk; the first action belongs to the newest observation.

        After `select_action` the remembered observations are used (they include the newest). Otherwise the
        batch speaks for itself: either with the frames of a training batch, or with one observation, which
        is then taken as at rest.

        With `inference_delay` it is real-time chunking: the observation is remembered, the frames since the
        last one are told by the clock, and the chunk goes on from what is left of the last one.

        Args:
            batch (`dict[str, Any]`): A preprocessed observation or dataset batch.
            noise (`Tensor`, *optional*): (B, horizon, A) starting noise; drawn when missing.
            num_inference_steps (`int`, *optional*): Denoising steps instead of the config's.
            inference_delay (`int`, *optional*): Frames until the chunk will be executed.
            prev_chunk_left_over (`Tensor`, *optional*): (T, A) actions that are left of the last chunk.

        Returns:
            `Tensor`: (B, horizon, A) in the normalised action space.

        Raises:
            ValueError: If `num_inference_steps` is out of range.
        """
        started = time.perf_counter()
        if not 0 <= (num_inference_steps or 0) <= MAX_INFERENCE_STEPS:
            raise ValueError(
                f"`num_inference_steps` ({num_inference_steps}) must lie in 0..{MAX_INFERENCE_STEPS}; "
                "lower it."
            )
        committed = None
        if inference_delay is not None:
            self._memory.append_after(self._clock.frames_since_last(), *self._frame(batch))
            # `lerobot-rollout` puts it on the config; as a field it would be saved and pull in model code.
            committed = committed_actions(
                prev_chunk_left_over,
                inference_delay,
                getattr(self.config, "rtc_config", None),
                self.config.horizon,
            )
        return self._plan(batch, noise, num_inference_steps, committed, started)

    def _plan(
        self,
        batch: dict[str, Any],
        noise: Tensor | None,
        steps: int | None,
        committed: Committed | None,
        started: float,
    ) -> Tensor:
        """A chunk for the remembered observations, or the batch's, within the budget since `started`."""
        observation = (
            self._memory.observation(tasks_of(batch, len(batch[OBS_STATE])), known_action(self._last_action))
            if self._memory
            else self.observation_from_batch(batch)
        )
        budget_ms = self.config.latency_budget_ms
        if budget_ms is None or steps is not None:
            steps = self.config.num_inference_steps if steps is None else steps
            chunk, self.last_info = self._network.plan(
                observation, noise, steps, self._enabled, None, committed, self._slow, started
            )
        else:
            chunk, self.last_info = self._planner.plan(
                self._network, observation, noise, self._enabled, budget_ms, committed, self._slow, started
            )
        return chunk

    def supports_rtc(self) -> bool:
        """`lerobot-rollout --inference.type=rtc` works."""
        return True

    def _frame(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """State, environment state and images of one observation a robot."""
        environment = batch[OBS_ENV_STATE] if self.network.env_dim else None
        return batch[OBS_STATE], environment, [batch[key] for key in self.config.image_features]

    def observation_from_batch(self, batch: dict[str, Any]) -> Observation:
        """What the network takes of a preprocessed batch or single observation."""
        window = self.network.window
        frames = len(window.past)
        environment = batch[OBS_ENV_STATE] if self.network.env_dim else None
        images = []
        for key in self.config.image_features:
            camera = batch[key]
            if camera.ndim == 4:  # one frame
                camera = camera[:, None].expand(-1, self.config.n_obs_steps, *camera.shape[1:])
            elif (
                camera.shape[1] != self.config.n_obs_steps
            ):  # every frame of the window; only the newest are used
                camera = camera[:, window.observation]
            images.append(camera)
        return Observation(
            state=with_time(batch[OBS_STATE], frames),
            environment=None if environment is None else with_time(environment, frames),
            images=images,
            tasks=tasks_of(batch, len(batch[OBS_STATE])),
            last_action=last_action_of(batch, self.config.horizon),
        )

    def _continue_curriculum(self) -> None:
        """Go on where the checkpoint stood, or begin now with a curriculum that is not the checkpoint's."""
        asked = _fingerprint(self.config.curriculum)
        if int(self.curriculum_id) != asked:
            self.curriculum_id.fill_(asked)
            self.curriculum_start.copy_(self.train_step)
        if self.config.curriculum:
            self._enter_stage(int(self.train_step) - int(self.curriculum_start))
        else:
            self.network.stage_weights.fill_(1.0)
        if self.average is not None:
            self.average.stage_weights.copy_(self.network.stage_weights)

    # ---- loading
    # ---------------------------------------------------------------------------------------------------

    @classmethod
    def _load_as_safetensor(
        cls, model: HierarchicalDiffusionPolicy, model_file: str, map_location: str, strict: bool
    ) -> HierarchicalDiffusionPolicy:
        """Load weights; given statistics (training on a dataset) replace the checkpoint's limits."""
        loaded: HierarchicalDiffusionPolicy = super()._load_as_safetensor(
            model, model_file, map_location, strict
        )
        loaded._continue_curriculum()
        table = LatencyTable.load(Path(model_file).parent, len(loaded.config.layers))
        loaded._planner = TimedPlanner(table, loaded.config.num_inference_steps)
        if loaded._dataset_stats:
            for network in (loaded.network, loaded.average):
                if network is not None:
                    network.set_statistics(loaded._dataset_stats)
        return loaded


def _start_missing_average(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Start the averaged weights at the trained ones when a checkpoint was made without averaging."""
    if any(key.startswith(f"{prefix}average.") for key in state_dict):
        return
    start = f"{prefix}network."
    for key in [key for key in state_dict if key.startswith(start)]:
        state_dict[f"{prefix}average.{key.removeprefix(start)}"] = state_dict[key].clone()


def _fingerprint(curriculum: list[CurriculumStage]) -> int:
    """A number that tells one curriculum from another, alike in every process."""
    return zlib.crc32(repr(curriculum).encode()) if curriculum else 0
