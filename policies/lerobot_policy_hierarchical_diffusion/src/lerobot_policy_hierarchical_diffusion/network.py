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

from .conditioning import LayerFusion, sample_nested_mask, sample_taking_part
from .configuration_hierarchical_diffusion import LAYER_NAMES, HierarchicalDiffusionConfig
from .deadline.stopwatch import Stopwatch
from .denoiser import make_denoiser
from .fast.conditioned import Conditioned
from .layers.base import HierarchyLayer, LayerContext, LayerInputs, LayerOutput, Targets
from .layers.dynamics import DynamicsLayer
from .layers.manipulation import ManipulationLayer
from .layers.planning import PlanningLayer
from .layers.safety import SafetyLayer
from .safety_filter import SafetyFilter, hold_action
from .sampling import Committed, ddim_sample, make_scheduler
from .statistics import MotionStatistics, NormalizedLimits, feature_widths
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
    """

    state: Tensor
    environment: Tensor | None
    images: list[Tensor]
    tasks: list[str | None]


class HierarchicalDiffusionNetwork(nn.Module):
    """Everything that has weights.

    Args:
        config (`HierarchicalDiffusionConfig`): Complete configuration, features included.
    """

    stage_weights: Tensor

    def __init__(self, config: HierarchicalDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.window = TimeWindow.from_config(config)
        self.state_dim, self.action_dim, self.env_dim = feature_widths(config)
        frame_dim = self.state_dim + self.env_dim
        cameras = len(config.image_features)
        image_dim = cameras * config.manipulation_dim

        self.motion = MotionStatistics(self.state_dim, config.velocity_quantile)
        self.limits = NormalizedLimits(config)
        self.filter = SafetyFilter(
            self.action_dim,
            self.state_dim,
            quantile=config.velocity_quantile,
            margin=config.filter_margin,
            alpha=config.emergency_alpha,
        )
        self.vision = Vision(config) if cameras else None
        self.task = HashedTextEmbedding(config.planning_dim, config.task_buckets)
        self.observation = nn.Sequential(
            nn.Linear(config.n_obs_steps * (frame_dim + image_dim), 2 * config.condition_dim),
            nn.GELU(),
            nn.Linear(2 * config.condition_dim, config.condition_dim),
        )
        layers = self._make_layers(frame_dim, image_dim)
        self.layers = nn.ModuleDict(layers)
        self.fusion = LayerFusion(
            {name: layer.feature_dim for name, layer in layers.items()}, config.condition_dim
        )
        self.denoiser = make_denoiser(config, self.action_dim)
        self.scheduler = make_scheduler(
            config.num_train_timesteps, config.beta_schedule, config.prediction_type
        )
        # How far each layer takes part (`Curriculum.weights_at`); a layer at 0 has learned nothing yet.
        self.register_buffer("stage_weights", torch.ones(len(LAYER_NAMES)))

    def _make_layers(self, frame_dim: int, image_dim: int) -> dict[str, HierarchyLayer]:
        cfg = self.config
        attention = {"heads": cfg.attention_heads, "dropout": cfg.dropout}
        return {
            "safety": SafetyLayer(self.state_dim, self.action_dim, cfg.safety_dim),
            "dynamics": DynamicsLayer(self.state_dim, cfg.future_steps, cfg.dynamics_dim),
            "manipulation": ManipulationLayer(
                cfg.n_obs_steps,
                frame_dim,
                cfg.horizon,
                self.action_dim,
                cfg.manipulation_dim,
                cfg.manipulation_depth,
                **attention,  # type: ignore[arg-type]
            ),
            "planning": PlanningLayer(
                cfg.planning_history,
                frame_dim,
                image_dim,
                cfg.planning_dim,
                cfg.planning_depth,
                **attention,  # type: ignore[arg-type]
            ),
        }

    def set_statistics(self, stats: dict[str, dict[str, Any]]) -> None:
        """Take LeRobot's statistics of a dataset: ranges, constant features, what blind depth looks like."""
        self.limits.set_from(stats)
        if self.vision is not None:
            self.vision.set_from(stats)

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
        hide = None
        if self.training and self.config.task_dropout:
            hide = (torch.rand(len(frames)) < self.config.task_dropout).tolist()
        return self.encoded(observation, frames, self.task(observation.tasks, hide))

    def encoded(self, observation: Observation, frames: Tensor, task: Tensor) -> LayerInputs:
        """The same with a task (B, D) that is embedded already."""
        encoded = self.vision(observation.images) if self.vision is not None else None
        window = self.window
        return LayerInputs(
            observation=frames[:, window.observation],
            history=frames[:, window.history, : self.state_dim],
            memory=frames[:, window.memory],
            task=task,
            image_tokens=None if encoded is None else encoded.tokens,
            image_pooled=None if encoded is None else encoded.pooled,
        )

    # ---- layers and condition
    # --------------------------------------------------------------------------------------

    def run_layers(
        self,
        inputs: LayerInputs,
        targets: Targets | None = None,
        enabled: frozenset[str] = frozenset(LAYER_NAMES),
        watch: Stopwatch | None = None,
    ) -> dict[str, LayerOutput]:
        """Run the enabled layers in priority order; later layers see the outputs of earlier ones."""
        if targets is not None and self.training:
            self.motion.observe(targets.velocity, targets.tracking, targets.future_valid)
        context = LayerContext(motion=self.motion, limits=self.limits, targets=targets)
        for name in LAYER_NAMES:
            if name in enabled:
                context.outputs[name] = self.layers[name](inputs, context)
                if watch is not None:
                    watch.lap(name)
        return context.outputs

    def condition(self, inputs: LayerInputs, outputs: dict[str, LayerOutput], mask: Tensor) -> Tensor:
        """The denoiser's condition (B, 2 C): encoded observation, then the layers fused by `mask`."""
        parts = [inputs.observation.flatten(1)]
        if inputs.image_pooled is not None:
            parts.append(inputs.image_pooled.flatten(1))
        encoded = self.observation(torch.cat(parts, dim=-1))
        fused = self.fusion({name: output.features for name, output in outputs.items()}, mask)
        return torch.cat([encoded, fused], dim=-1)

    # ---- training
    # --------------------------------------------------------------------------------------------------

    def losses(self, observation: Observation, frames: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Every loss of a batch, (B,) each: `diffusion` and one for each layer, unweighted."""
        if self.training:
            position = self.position(observation)
            hold = hold_action(position, self.limits) if self.filter.positions else None
            self.filter.observe(targets.actions, targets.actions_valid, hold)
        inputs = self.layer_inputs(observation, frames)
        outputs = self.run_layers(inputs, targets)
        if not self.training:
            self.filter.observe_held_out(outputs["safety"].info["score"])
        dropout = self.config.layer_dropout if self.training else 0.0
        mask = sample_nested_mask(len(frames), len(LAYER_NAMES), dropout, frames.device)
        if self.training and self.config.curriculum:
            mask = mask * sample_taking_part(len(frames), self.stage_weights)
        else:
            mask = mask * (self.stage_weights > 0)
        losses = {"diffusion": self.diffusion_loss(self.condition(inputs, outputs, mask), targets)}
        for name, output in outputs.items():
            assert output.loss is not None
            losses[name] = output.loss
        return losses

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
        last_action: Tensor | None = None,
        committed: Committed | None = None,
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
            last_action (`Tensor`, *optional*): (B, A) executed before this plan.
            committed (`Committed`, *optional*): Actions of the plan before that this one goes on from.

        Returns:
            `tuple[Tensor, dict[str, Any]]`: The chunk (B, H, A) after the safety filter, and the run's
                information.
        """
        device = observation.state.device
        watch = Stopwatch(device, exact=steps_in_time is not None)
        heard = enabled & self.trained_layers()
        inputs = self.layer_inputs(observation, self.frames(observation))
        watch.lap("encode")
        outputs = self.run_layers(inputs, enabled=heard | {"safety"}, watch=watch)

        batch = len(inputs.history)
        mask = torch.tensor([[float(name in heard) for name in LAYER_NAMES]], device=device).expand(batch, -1)
        condition = self.condition(inputs, outputs, mask)
        draft = outputs["manipulation"].info["draft"] if "manipulation" in outputs else None
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
        score = outputs["safety"].info["score"]
        chunk, emergency = self.filter(sampled, score, self.limits, self.position(observation), last_action)
        watch.lap("filter")
        return chunk, {
            "layers": {name: output.info for name, output in outputs.items()},
            "active_layers": [name for name in LAYER_NAMES if name in outputs],
            "emergency": emergency,
            "emergency_score": score,
            "anomaly": outputs["dynamics"].info["anomaly"] if "dynamics" in outputs else None,
            "steps": steps,
            "started_from": "noise" if draft is None else "draft",
            "clipped": (chunk != sampled).sum(),
            "ms": watch.ms | {"total": watch.elapsed_ms()},
        }

    def position(self, observation: Observation) -> Tensor:
        """The newest state (B, S)."""
        return observation.state[:, self.window.observation[-1]]

    def trained_layers(self) -> frozenset[str]:
        """Layers that a curriculum has let take part; all of them without one."""
        parts = zip(LAYER_NAMES, self.stage_weights.tolist(), strict=True)
        return frozenset(name for name, part in parts if part > 0)
