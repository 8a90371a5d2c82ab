# SPDX-License-Identifier: Apache-2.0
"""The one interface of all layers: `layer(inputs, context) -> LayerOutput`.

Legend: `B` batch, `H` chunk length, `K` future steps, `N` history steps, `M` memory length, `O` observation
steps, `S` state width, `E` environment width, `A` action width, `P` image tokens, `D` feature width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..statistics import MotionStatistics, NormalizedLimits

COMMAND_CLIP = 50.0
"""Distances of a command from the position beyond this many usual velocities are alike."""


@dataclass(frozen=True)
class LayerInputs:
    """What every layer may look at; normalised, past and present only.

    Args:
        observation (`Tensor`): (B, O, S + E) newest frames, state and environment side by side.
        history (`Tensor`): (B, N, S) newest consecutive states, for reflexes.
        motion (`Tensor`): (B, T, S) newest consecutive states, for where the body is going.
        command (`Tensor`): (B, A + 1) the last action: how far it asks each joint to move from where it is,
            in usual velocities, where actions are positions; else as it is. The last number is 1, or 0 with
            the others where the last action is unknown.
        memory (`Tensor`): (B, M, S + E) strided older frames up to now.
        task (`Tensor`): (B, D) embedded task text.
        image_tokens (`Tensor`, *optional*): (B, P, D) patches of all cameras.
        image_pooled (`Tensor`, *optional*): (B, O, F) pooled cameras.
        stock (`Tensor`, *optional*): (B, C) what LeRobot's observation encoder makes of the newest frames.
    """

    observation: Tensor
    history: Tensor
    motion: Tensor
    command: Tensor
    memory: Tensor
    task: Tensor
    image_tokens: Tensor | None = None
    image_pooled: Tensor | None = None
    stock: Tensor | None = None


@dataclass(frozen=True)
class Targets:
    """What training knows beyond the present.

    Args:
        actions (`Tensor`): (B, H, A) the demonstrated chunk.
        actions_valid (`Tensor`): (B, H) bool.
        future (`Tensor`): (B, K, S) next states.
        future_valid (`Tensor`): (B, K) bool.
        velocity (`Tensor`): (B, K, S) state change a frame, from now on.
        ahead (`Tensor`): (B, T, S + E) all frames up to the furthest subgoal; the episode's last one repeats.
        tracking (`Tensor`, *optional*): (B, T <= K, S) distance of each state from the one its action asked
            for; None unless actions and states have the same width (position control).
        contact (`Tensor`, *optional*): (B, K, N) 0 or 1, the contacts of the next frames; None where the data
            tell none.
        progress (`Tensor`, *optional*): (B,) share of the episode behind; None when the dataset's episodes
            are unknown.
    """

    actions: Tensor
    actions_valid: Tensor
    future: Tensor
    future_valid: Tensor
    velocity: Tensor
    ahead: Tensor
    tracking: Tensor | None = None
    contact: Tensor | None = None
    progress: Tensor | None = None


@dataclass
class LayerContext:
    """What the layers share while one batch passes through them in priority order.

    Args:
        motion (`MotionStatistics`): Statistics of the motion in the training data.
        limits (`NormalizedLimits`): Range of the training data.
        targets (`Targets`, *optional*): Present when losses are wanted.
        kept (`dict[str, Tensor]`): (B, 1) for each layer, 1 where its features may be used and 0 where its
            null stands in for it; a layer that reads another one's features keeps to this too.
        outputs (`dict[str, LayerOutput]`): Outputs of the layers that ran before, by name.
    """

    motion: MotionStatistics
    limits: NormalizedLimits
    targets: Targets | None = None
    kept: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, LayerOutput] = field(default_factory=dict)

    def features_of(self, name: str) -> tuple[Tensor, Tensor] | None:
        """Features (B, D) of a layer that ran before, and where they may be used (B, 1); None without it."""
        if name not in self.outputs:
            return None
        features = self.outputs[name].features
        return features, self.kept.get(name, torch.ones_like(features[:, :1]))


@dataclass(frozen=True)
class LayerOutput:
    """A layer's result.

    Args:
        features (`Tensor`): (B, D) what conditions the denoiser.
        loss (`Tensor`, *optional*): (B,) the layer's own loss; None without targets.
        info (`dict[str, Tensor]`): Named results for the user and for other layers, first axis B.
        precise (`Tensor`, *optional*): (B, C) what conditions the denoiser besides, neither normalised nor
            mixed with other layers' features.
    """

    features: Tensor
    loss: Tensor | None
    info: dict[str, Tensor]
    precise: Tensor | None = None


def draft_of(infos: Mapping[str, Mapping[str, Tensor]]) -> Tensor | None:
    """Where denoising starts, (B, H, A): the manipulation layer's draft, shifted by the planning layer's.

    Args:
        infos (`Mapping[str, Mapping[str, Tensor]]`): `LayerOutput.info` of the layers that ran.

    Returns:
        None without a manipulation layer.
    """
    draft = infos.get("manipulation", {}).get("draft")
    shift = infos.get("planning", {}).get("draft_shift")
    if draft is None or shift is None:
        return draft
    return draft.detach() + shift


class HierarchyLayer(nn.Module, ABC):
    """Base of the layers.

    Args:
        feature_dim (`int`): Width of `LayerOutput.features`.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    @abstractmethod
    def forward(self, inputs: LayerInputs, context: LayerContext) -> LayerOutput:
        """Compute features and, when `context.targets` is there, the loss."""


def small_encoder(width: int, dim: int) -> nn.Sequential:
    """An MLP from (..., width) to (..., dim)."""
    return nn.Sequential(nn.Linear(width, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))


def with_velocity(history: Tensor, scale: Tensor) -> Tensor:
    """Append each step's change since the one before, in units of `scale` (S,), to `history`.

    A change of a hundredth of the range is invisible beside the position itself; scaled it is of order one.
    """
    change = history.diff(dim=1, prepend=history[:, :1]) / scale
    return torch.cat([history, change], dim=-1)
