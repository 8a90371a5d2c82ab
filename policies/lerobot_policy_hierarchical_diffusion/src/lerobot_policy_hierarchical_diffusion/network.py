# SPDX-License-Identifier: Apache-2.0
"""The network: encoders, the four layers, their fusion, the denoiser, the losses and the sampler.

Legend: `B` batch, `W` frames of the time window, `O` observation steps, `H` chunk length, `L` layers, `S`
state width, `E` environment width, `A` action width, `C` condition width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerobot_ext.nn.embeddings import HashedTextEmbedding

from .conditioning import LayerFusion, sample_layer_mask, sample_taking_part
from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig
from .deadline.stopwatch import Stopwatch
from .denoiser import make_denoiser
from .fast.conditioned import Conditioned
from .layers.base import (
    COMMAND_CLIP,
    HierarchyLayer,
    LayerContext,
    LayerInputs,
    LayerOutput,
    Targets,
    draft_of,
)
from .layers.dynamics import DynamicsLayer
from .layers.manipulation import ManipulationLayer
from .layers.planning import PlanningLayer
from .layers.safety import SafetyLayer
from .observation_encoder import ObservationEncoder
from .safety_filter import SafetyFilter, hold_action
from .sampling import Committed, ddim_sample, make_scheduler
from .slow_layers import SlowLayers
from .statistics import MotionStatistics, NormalizedLimits, feature_widths
from .stock_diffusion import StockObservationEncoder
from .targets import masked_mean
from .vision import Vision
from .window import TimeWindow

_INPUT_CLIP = 10.0
"""Normalised observations beyond this are faults, not information."""


@dataclass(frozen=True)
class Observation:
    """A time window of normalised observations.

    Args:
        state (`Tensor`): (B, W, S); at inference only the past frames of the window.
        environment (`Tensor`, *optional*): (B, W, E).
        images (`list[Tensor]`): One (B, O, 3, height, width) a camera; depth has one channel.
        tasks (`list[str | None]`): One text a sample.
        last_action (`Tensor`, *optional*): (B, A + 1) the last action; the last number is 1 where it is
            known, and everything 0 where it is not.
    """

    state: Tensor
    environment: Tensor | None
    images: list[Tensor]
    tasks: list[str | None]
    last_action: Tensor | None = None


class HierarchicalDiffusionNetwork(nn.Module):
    """Everything that has weights.

    Args:
        config (`HierarchicalDiffusionConfig`): Complete configuration, features included.
    """

    stage_weights: Tensor
    contact_middle: Tensor

    def __init__(self, config: HierarchicalDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.names = config.layers
        self.window = TimeWindow.from_config(config)
        self.state_dim, self.action_dim, self.env_dim = feature_widths(config)
        frame_dim = self.state_dim + self.env_dim
        told = (config.input_features or {}).get(config.contact_key)
        self.contacts = told.shape[0] if told is not None and "dynamics" in self.names else 0
        self.register_buffer("contact_middle", torch.full((self.contacts,), 0.5))
        is_stock = config.observation_encoder == "stock"
        # LeRobot's observation encoder has the posture already, and cannot leave it out.
        self.posture_dim = 0 if is_stock else config.condition_dim

        self.motion = MotionStatistics(self.state_dim, config.velocity_quantile)
        self.limits = NormalizedLimits(config)
        self.filter = SafetyFilter(
            self.action_dim,
            self.state_dim,
            quantile=config.velocity_quantile,
            margin=config.filter_margin,
            alpha=config.emergency_alpha,
        )
        seen = bool(config.image_features) and ("manipulation" in self.names or not is_stock)
        self.vision = Vision(config) if seen else None
        reads = "planning" in self.names or not is_stock
        self.task = HashedTextEmbedding(config.planning_dim, config.task_buckets) if reads else None
        self.observation: ObservationEncoder | StockObservationEncoder = (
            StockObservationEncoder(config) if is_stock else ObservationEncoder(config)
        )
        layers = self._make_layers(frame_dim)
        self.layers = nn.ModuleDict(layers)
        self.fusion = None
        if layers:
            dims = {name: layer.feature_dim for name, layer in layers.items()}
            precise = {"safety": self.posture_dim} if "safety" in layers and self.posture_dim else {}
            self.fusion = LayerFusion(dims, config.condition_dim, precise)
        condition_dim = self.observation.dim + (self.fusion.dim if self.fusion is not None else 0)
        self.denoiser = make_denoiser(config, self.action_dim, condition_dim)
        self.scheduler = make_scheduler(
            config.num_train_timesteps, config.beta_schedule, config.prediction_type
        )
        # How far each layer takes part (`Curriculum.weights_at`); a layer at 0 has learned nothing yet.
        self.register_buffer("stage_weights", torch.ones(len(self.names)))

    def _make_layers(self, frame_dim: int) -> dict[str, HierarchyLayer]:
        cfg = self.config
        attention = {"heads": cfg.attention_heads, "dropout": cfg.dropout}
        make: dict[str, Callable[[], HierarchyLayer]] = {
            "safety": lambda: SafetyLayer(
                self.state_dim, self.action_dim, cfg.safety_dim, cfg.n_obs_steps, self.posture_dim
            ),
            "dynamics": lambda: DynamicsLayer(
                self.state_dim, cfg.future_steps, cfg.dynamics_dim, self.contacts
            ),
            "manipulation": lambda: ManipulationLayer(
                cfg.n_obs_steps,
                frame_dim,
                len(cfg.image_features) * cfg.manipulation_dim,
                cfg.horizon,
                self.action_dim,
                cfg.manipulation_dim,
                cfg.manipulation_depth,
                **attention,  # type: ignore[arg-type]
            ),
            "planning": lambda: PlanningLayer(
                cfg.planning_history,
                frame_dim,
                cfg.manipulation_dim if "manipulation" in self.names else 0,
                cfg.planning_dim,
                cfg.planning_depth,
                **attention,  # type: ignore[arg-type]
                draft_shape=(cfg.horizon, self.action_dim),
            ),
        }
        return {name: make[name]() for name in self.names}

    def set_statistics(self, stats: dict[str, dict[str, Any]]) -> None:
        """Take LeRobot's statistics of a dataset: ranges, constant features, what blind depth looks like."""
        self.limits.set_from(stats)
        if self.vision is not None:
            self.vision.set_from(stats)
        if self.contacts:
            self.contact_middle.copy_(self.limits.middle_of(stats, self.config.contact_key))

    # ---- inputs
    # ----------------------------------------------------------------------------------------------------

    def frames(self, observation: Observation) -> Tensor:
        """State and environment of the window side by side, (B, W, S + E); constant features are zeroed."""
        parts = [observation.state * self.limits.state_varies]
        if observation.environment is not None:
            parts.append(observation.environment * self.limits.env_varies)
        return torch.cat(parts, dim=-1).clamp(-_INPUT_CLIP, _INPUT_CLIP)

    def layer_inputs(self, observation: Observation, frames: Tensor) -> LayerInputs:
        """Encode cameras and task once, and cut the window into what the layers look at."""
        if self.task is None:
            return self.encoded(observation, frames, frames.new_zeros(len(frames), self.config.planning_dim))
        hide = None
        if self.training and self.config.task_dropout:
            hide = (torch.rand(len(frames)) < self.config.task_dropout).tolist()
        return self.encoded(observation, frames, self.task(observation.tasks, hide))

    def encoded(self, observation: Observation, frames: Tensor, task: Tensor) -> LayerInputs:
        """The same with a task (B, D) that is embedded already."""
        encoded = self.vision(observation.images) if self.vision is not None else None
        window = self.window
        stock = None
        if isinstance(self.observation, StockObservationEncoder):
            environment = observation.environment
            newest = None if environment is None else environment[:, window.observation]
            stock = self.observation(observation.state[:, window.observation], newest, observation.images)
        return LayerInputs(
            observation=frames[:, window.observation],
            history=frames[:, window.history, : self.state_dim],
            motion=frames[:, window.motion, : self.state_dim],
            command=self.command(observation),
            memory=frames[:, window.memory],
            task=task,
            image_tokens=None if encoded is None else encoded.tokens,
            image_pooled=None if encoded is None else encoded.pooled,
            stock=stock,
        )

    def command(self, observation: Observation) -> Tensor:
        """`LayerInputs.command` (B, A + 1); in training it is hidden from a share of the samples."""
        position = self.position(observation)
        if observation.last_action is None:
            return position.new_zeros(len(position), self.action_dim + 1)
        action, known = observation.last_action[:, :-1], observation.last_action[:, -1:]
        if self.filter.positions:
            wanted = action * self.limits.target_scale + self.limits.target_offset
            distance = (wanted - position) * self.limits.state_varies / self.motion.velocity_scale()
            action = distance.clamp(-COMMAND_CLIP, COMMAND_CLIP)
        if self.training and self.config.command_dropout:
            shown = torch.rand(len(known), 1, device=known.device) >= self.config.command_dropout
            known = known * shown
        return torch.cat([action * known, known], dim=-1)

    # ---- layers and condition
    # --------------------------------------------------------------------------------------

    def run_layers(
        self,
        inputs: LayerInputs,
        mask: Tensor,
        targets: Targets | None = None,
        enabled: frozenset[str] | None = None,
        watch: Stopwatch | None = None,
        slow: SlowLayers | None = None,
    ) -> dict[str, LayerOutput]:
        """Run layers in priority order; later layers see the outputs of earlier ones.

        Args:
            inputs (`LayerInputs`): What they look at.
            mask (`Tensor`): (B, L) where each layer's features may be used.
            targets (`Targets`, *optional*): With them, losses are computed.
            enabled (`frozenset[str]`, *optional*): The layers that run; all of them.
            watch (`Stopwatch`, *optional*): Takes a lap for each.
            slow (`SlowLayers`, *optional*): Outputs of earlier plans that still serve.
        """
        kept = {name: mask[:, number, None] for number, name in enumerate(self.names)}
        context = LayerContext(motion=self.motion, limits=self.limits, targets=targets, kept=kept)
        for name in self.names:
            if enabled is not None and name not in enabled:
                continue
            output = slow.recall(name, len(mask)) if slow is not None else None
            if output is None:
                output = self.layers[name](inputs, context)
                if slow is not None:
                    slow.keep(name, output)
            context.outputs[name] = output
            if watch is not None:
                watch.lap(name)
        return context.outputs

    def condition(self, inputs: LayerInputs, outputs: dict[str, LayerOutput], mask: Tensor) -> Tensor:
        """The denoiser's condition (B, C): encoded observation, then the layers fused by `mask`."""
        encoded = inputs.stock
        if encoded is None:
            encoded = self.observation(inputs, self.motion.velocity_scale())
        if self.fusion is None:
            return encoded
        return torch.cat([encoded, self.fusion(outputs, mask)], dim=-1)

    # ---- training
    # --------------------------------------------------------------------------------------------------

    def losses(
        self,
        observation: Observation,
        frames: Tensor,
        targets: Targets,
        kept: frozenset[str] | None = None,
        inputs: LayerInputs | None = None,
    ) -> dict[str, Tensor]:
        """Every loss of a batch, unweighted.

        Args:
            observation (`Observation`): All frames of the window.
            frames (`Tensor`): (B, W, S + E) from `frames`.
            targets (`Targets`): What is to be foreseen.
            kept (`frozenset[str]`, *optional*): Layers whose features are used, for every sample; by default
                drawn by lot in training, and all that have been trained otherwise.
            inputs (`LayerInputs`, *optional*): `layer_inputs(…)` of them, where known already.

        Returns:
            `dict[str, Tensor]`: (B,) each: `diffusion` and one for each layer.
        """
        if self.training:
            self.motion.observe(
                targets.velocity, targets.tracking, targets.future_valid, targets.actions_valid
            )
            position = self.position(observation)
            hold = hold_action(position, self.limits) if self.filter.positions else None
            self.filter.observe(targets.actions, targets.actions_valid, hold)
        inputs = self.layer_inputs(observation, frames) if inputs is None else inputs
        mask = self._mask(len(frames), frames.device, kept)
        outputs = self.run_layers(inputs, mask, targets)
        if not self.training and "safety" in outputs:
            self.filter.observe_held_out(outputs["safety"].info["score"])
        losses = {"diffusion": self.diffusion_loss(self.condition(inputs, outputs, mask), targets)}
        for name, output in outputs.items():
            assert output.loss is not None
            losses[name] = output.loss
        return losses

    def _mask(self, batch: int, device: torch.device, kept: frozenset[str] | None) -> Tensor:
        """Which layers' features each sample uses, (B, L)."""
        if kept is not None:
            return self.fixed_mask(batch, device, kept)
        dropout = self.config.layer_dropout if self.training else 0.0
        mask = sample_layer_mask(batch, len(self.names), dropout, device, first_always="safety" in self.names)
        if self.training and self.config.curriculum:
            return mask * sample_taking_part(batch, self._shares())
        return mask * (self._shares() > 0)

    def fixed_mask(self, batch: int, device: torch.device, kept: frozenset[str]) -> Tensor:
        """The mask (B, L) that uses the same layers for every sample."""
        row = torch.tensor([[float(name in kept) for name in self.names]], device=device)
        return row.expand(batch, -1)

    def diffusion_loss(self, condition: Tensor, targets: Targets) -> Tensor:
        """Squared error at random noise levels over the valid actions of each sample, (B,)."""
        actions = targets.actions
        noise = torch.randn_like(actions)
        timestep = torch.randint(self.config.num_train_timesteps, (len(actions),), device=actions.device)
        noisy = self.scheduler.add_noise(actions, noise, timestep)
        predicted = self.denoiser(noisy, timestep, condition)
        wanted = noise if self.config.prediction_type == "epsilon" else actions
        return masked_mean(F.mse_loss(predicted, wanted, reduction="none"), targets.actions_valid)

    # ---- inference
    # -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def plan(
        self,
        observation: Observation,
        noise: Tensor | None,
        steps: int,
        enabled: frozenset[str],
        steps_in_time: Callable[[float, int], int] | None = None,
        committed: Committed | None = None,
        slow: SlowLayers | None = None,
        started: float | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Sample a chunk of actions.

        Args:
            observation (`Observation`): The past frames of the window.
            noise (`Tensor`, *optional*): (B, H, A) starting noise; drawn when missing.
            steps (`int`): Denoising steps; 0 returns the draft.
            enabled (`frozenset[str]`): Layers that run, if a curriculum has let them take part; the safety
                layer always runs.
            steps_in_time (`Callable`, *optional*): Asked before the denoising, with the ms gone and the
                fewest steps possible, how many steps it is to be; without it, `steps`. With it times are
                exact on an accelerator too.
            committed (`Committed`, *optional*): Actions of the plan before that this one goes on from.
            slow (`SlowLayers`, *optional*): Outputs of earlier plans that still serve.
            started (`float`, *optional*): `time.perf_counter()` when the planning began, if before this call.

        Returns:
            `tuple[Tensor, dict[str, Any]]`: The chunk (B, H, A) after the safety filter, and the run's
                information.
        """
        device = observation.state.device
        watch = Stopwatch(device, exact=steps_in_time is not None, started=started)
        if started is not None:
            watch.lap("remember")
        heard = enabled & self.trained_layers()
        inputs = self.layer_inputs(observation, self.frames(observation))
        watch.lap("encode")
        batch = len(inputs.history)
        mask = self.fixed_mask(batch, device, heard)
        outputs = self.run_layers(inputs, mask, enabled=heard | {"safety"}, watch=watch, slow=slow)
        condition = self.condition(inputs, outputs, mask)
        draft = draft_of({name: output.info for name, output in outputs.items()})
        if noise is None:
            noise = torch.randn(batch, self.config.horizon, self.action_dim, device=device)
        denoise = Conditioned(self.denoiser, condition)
        watch.lap("condition")
        if steps_in_time is not None:
            steps = steps_in_time(watch.elapsed_ms(), 0 if draft is not None else 1)
        sampled = ddim_sample(
            self.scheduler,
            denoise,
            noise,
            steps=steps,
            draft=draft,
            draft_noise=self.config.draft_noise,
            committed=committed,
        )
        watch.lap("denoise")
        score = outputs["safety"].info["score"] if "safety" in outputs else sampled.new_zeros(batch)
        last = observation.last_action
        before = None if last is None or not bool(last[:, -1].all()) else last[:, :-1]
        chunk, emergency = self.filter(sampled, score, self.limits, self.position(observation), before)
        watch.lap("filter")
        return chunk, {
            "layers": {name: output.info for name, output in outputs.items()},
            "active_layers": list(outputs),
            "emergency": emergency,
            "emergency_score": score,
            "anomaly": outputs["dynamics"].info["anomaly"] if "dynamics" in outputs else None,
            "steps": steps,
            "started_from": "noise" if draft is None else "draft",
            "clipped": (chunk != sampled).sum(),
            "ms": watch.ms | {"total": watch.elapsed_ms()},
        }

    @torch.no_grad()
    def alarm(self, observation: Observation) -> Tensor:
        """Which robots (B,) are in an emergency, as far as the safety layer can tell; a fraction of a plan.

        It needs neither cameras nor other layers, so that it can be asked at every frame.
        """
        frames = self.frames(observation)
        inputs = LayerInputs(
            observation=frames[:, self.window.observation],
            history=frames[:, self.window.history, : self.state_dim],
            motion=frames[:, self.window.motion, : self.state_dim],
            command=self.command(observation),
            memory=frames[:, self.window.memory],
            task=frames.new_zeros(len(frames), self.config.planning_dim),
        )
        output = self.layers["safety"](inputs, LayerContext(motion=self.motion, limits=self.limits))
        alarmed: Tensor = output.info["score"] > self.filter.threshold
        return alarmed

    def position(self, observation: Observation) -> Tensor:
        """The newest state (B, S)."""
        return observation.state[:, self.window.observation[-1]]

    def trained_layers(self) -> frozenset[str]:
        """Layers that a curriculum has let take part, and the safety layer; all of them without one."""
        parts = zip(self.names, self._shares().tolist(), strict=True)
        return frozenset(name for name, part in parts if part > 0)

    def _shares(self) -> Tensor:
        """The share (L,) of the samples that sees each layer: as the curriculum's stage says.

        The safety layer, which has the posture, is seen in every stage; a stage decides on its loss only.
        """
        shares = self.stage_weights.clone()
        if "safety" in self.names:
            shares[self.names.index("safety")] = 1.0
        return shares
