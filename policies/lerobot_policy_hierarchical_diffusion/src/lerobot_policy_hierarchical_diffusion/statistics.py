# SPDX-License-Identifier: Apache-2.0
"""Numbers about the training data that the layers need and LeRobot's statistics do not hold.

All of them are buffers: saved with the policy, restored on resume.
Legend: `B` batch, `K` future steps, `S` state width, `A` action width, `Q` histogram bins.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from lerobot.configs import FeatureType
from lerobot.processor import NormalizerProcessorStep, TransitionKey, UnnormalizerProcessorStep
from lerobot.processor.converters import create_transition
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from torch import Tensor, nn

from lerobot_ext.nn.remembered import Remembered

from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig

_BINS = 256
_SMALLEST, _LARGEST = 1e-5, 1e2
_MIN_RELATIVE_RANGE = 1e-4
"""A feature that varies less than this (relative to its size) is constant; its normalised value is noise
over noise."""


class StreamingQuantile(nn.Module):
    """Quantile of a stream of non-negative numbers per feature, by a logarithmic histogram.

    Args:
        width (`int`): Number of features S.
        quantile (`float`): Which quantile, in [0, 1).
    """

    counts: Tensor
    edges: Tensor

    def __init__(self, width: int, quantile: float) -> None:
        super().__init__()
        self.quantile = quantile
        edges = torch.logspace(math.log10(_SMALLEST), math.log10(_LARGEST), _BINS - 1)
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("counts", torch.zeros(width, _BINS))
        self._remembered = Remembered()

    @torch.no_grad()
    def observe(self, values: Tensor, mask: Tensor) -> None:
        """Count `values` (B, K, S) where `mask` (B, K) is True."""
        bins = torch.bucketize(values.detach().float().contiguous(), self.edges).flatten(0, 1)  # (B K, S)
        weights = mask.flatten().float()[:, None].expand(bins.shape)
        self.counts.scatter_add_(1, bins.T, weights.T)

    def value(self) -> Tensor:
        """The quantile (S,): the upper edge of its bin, infinite before the first observation."""
        return self._remembered.get((self.counts, self.edges), self._value)

    def _value(self) -> Tensor:
        cumulative = self.counts.cumsum(1)
        total = cumulative[:, -1:]
        bin_index = (cumulative < self.quantile * total).sum(1).clamp_max(_BINS - 2)
        return torch.where(total[:, 0] > 0, self.edges[bin_index], torch.inf)


class MotionStatistics(nn.Module):
    """How the robot in the data moves: usual speeds, largest usual speeds, largest usual tracking errors.

    Args:
        state_dim (`int`): State width S.
        quantile (`float`): Quantile that separates usual from unusual.
    """

    square_sum: Tensor
    speed_sum: Tensor
    count: Tensor

    def __init__(self, state_dim: int, quantile: float) -> None:
        super().__init__()
        self.velocity_quantile = StreamingQuantile(state_dim, quantile)
        self.tracking_quantile = StreamingQuantile(state_dim, quantile)
        self.register_buffer("square_sum", torch.zeros(state_dim))
        self.register_buffer("speed_sum", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def observe(
        self, velocity: Tensor, tracking: Tensor | None, valid: Tensor, commanded: Tensor | None = None
    ) -> None:
        """Take in a batch.

        Args:
            velocity (`Tensor`): (B, K, S).
            tracking (`Tensor`, *optional*): (B, T <= K, S).
            valid (`Tensor`): (B, K) bool, frames that are no padding.
            commanded (`Tensor`, *optional*): (B, T or more) bool, actions that are no padding.
        """
        self.velocity_quantile.observe(velocity.abs(), valid)
        if tracking is not None:
            asked = valid[:, : tracking.shape[1]]
            if commanded is not None:
                asked = asked & commanded[:, : tracking.shape[1]]
            self.tracking_quantile.observe(tracking, asked)
        weights = valid.float()[..., None]
        self.square_sum += (velocity.float().square() * weights).sum((0, 1))
        self.speed_sum += (velocity.float().norm(dim=-1) * weights[..., 0]).sum()
        self.count += weights.sum()

    def velocity_scale(self) -> Tensor:
        """Root mean square velocity (S,), bounded below for joints at rest."""
        return (self.square_sum / self.count.clamp_min(1.0)).sqrt().clamp_min(1e-3)

    def typical_speed(self) -> Tensor:
        """Mean length of the velocity vector, ()."""
        return self.speed_sum / self.count.clamp_min(1.0)


class NormalizedLimits(nn.Module):
    """Normalised range of the training data, and the map from an action to the state it asks for.

    Without dataset statistics nothing is limited and nothing is masked.

    Args:
        config (`HierarchicalDiffusionConfig`): Features and normalisation.
    """

    action_low: Tensor
    action_high: Tensor
    state_low: Tensor
    state_high: Tensor
    state_varies: Tensor
    env_varies: Tensor
    target_scale: Tensor
    target_offset: Tensor

    def __init__(self, config: HierarchicalDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        state_dim, action_dim, env_dim = feature_widths(config)
        for name, width in (("action", action_dim), ("state", state_dim)):
            self.register_buffer(f"{name}_low", torch.full((width,), -torch.inf))
            self.register_buffer(f"{name}_high", torch.full((width,), torch.inf))
        self.register_buffer("state_varies", torch.ones(state_dim))
        self.register_buffer("env_varies", torch.ones(env_dim))
        self.register_buffer("target_scale", torch.ones(action_dim))
        self.register_buffer("target_offset", torch.zeros(action_dim))

    @torch.no_grad()
    def set_from(self, stats: dict[str, dict[str, Any]]) -> None:
        """Fill the buffers from LeRobot's dataset statistics, through LeRobot's own normaliser.

        Args:
            stats (`dict[str, dict[str, Any]]`): `min`, `max` and whatever the normalisation mode needs, for
                each feature.
        """
        for key, name in ((ACTION, "action"), (OBS_STATE, "state")):
            if _has_range(stats, key):
                low, high = (self._normalize(stats, key, stats[key][end]) for end in ("min", "max"))
                margin = self.config.limit_margin * (high - low)
                getattr(self, f"{name}_low").copy_(low - margin)
                getattr(self, f"{name}_high").copy_(high + margin)
        for key, name in ((OBS_STATE, "state"), (OBS_ENV_STATE, "env")):
            if _has_range(stats, key) and getattr(self, f"{name}_varies").numel():
                getattr(self, f"{name}_varies").copy_(_varies(stats[key]))
        constant = self.state_varies == 0  # such a joint enters the network as 0, wherever its range lies
        self.state_low[constant] = -torch.inf
        self.state_high[constant] = torch.inf
        if self.action_low.shape == self.state_low.shape and {ACTION, OBS_STATE} <= set(stats):
            zero, one = torch.zeros_like(self.action_low), torch.ones_like(self.action_low)
            at_zero, at_one = (
                self._normalize(stats, OBS_STATE, self._unnormalize_action(stats, value))
                for value in (zero, one)
            )
            self.target_scale.copy_(at_one - at_zero)
            self.target_offset.copy_(at_zero)

    def middle_of(self, stats: dict[str, dict[str, Any]], key: str) -> Tensor:
        """Normalised middle of a feature's range; 0.5 where its range is unknown."""
        if not _has_range(stats, key):
            return torch.tensor(0.5)
        low, high = (torch.as_tensor(stats[key][end], dtype=torch.float32) for end in ("min", "max"))
        return self._normalize(stats, key, (low + high) / 2)

    def _normalize(self, stats: dict[str, dict[str, Any]], key: str, value: Any) -> Tensor:
        vector = torch.as_tensor(value, dtype=torch.float32).cpu().reshape(1, -1)
        features = {**(self.config.input_features or {}), **(self.config.output_features or {})}
        step = NormalizerProcessorStep(
            features={key: features[key]}, norm_map=self.config.normalization_mapping, stats=stats
        )
        if key == ACTION:
            return torch.as_tensor(step(create_transition(action=vector))[TransitionKey.ACTION])[0]
        return torch.as_tensor(
            step(create_transition(observation={key: vector}))[TransitionKey.OBSERVATION][key]
        )[0]

    def _unnormalize_action(self, stats: dict[str, dict[str, Any]], value: Tensor) -> Tensor:
        step = UnnormalizerProcessorStep(
            features=self.config.output_features, norm_map=self.config.normalization_mapping, stats=stats
        )
        return torch.as_tensor(
            step(create_transition(action=value.cpu().reshape(1, -1)))[TransitionKey.ACTION]
        )[0]


def feature_widths(config: HierarchicalDiffusionConfig) -> tuple[int, int, int]:
    """Widths of state, action and environment state (0 when absent)."""
    state, action, env = config.robot_state_feature, config.action_feature, config.env_state_feature
    assert state is not None
    assert action is not None, "`config.validate_features()` runs before this"
    if env is not None and env.type is not FeatureType.ENV:
        raise ValueError(f"`{OBS_ENV_STATE}` has type {env.type}; it must be {FeatureType.ENV}.")
    return state.shape[0], action.shape[0], 0 if env is None else env.shape[0]


def _has_range(stats: dict[str, dict[str, Any]], key: str) -> bool:
    return key in stats and "min" in stats[key] and "max" in stats[key]


def _varies(stats: dict[str, Any]) -> Tensor:
    low, high = (torch.as_tensor(stats[end], dtype=torch.float64).cpu().flatten() for end in ("min", "max"))
    size = torch.maximum(low.abs(), high.abs()) + 1e-3
    return ((high - low) > _MIN_RELATIVE_RANGE * size).float()
