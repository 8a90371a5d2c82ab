# SPDX-License-Identifier: Apache-2.0
"""Safety layer: does something unsafe happen in the next frames?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..targets import injected_violations, masked_mean, violation_labels
from .base import (
    COMMAND_CLIP,
    HierarchyLayer,
    LayerContext,
    LayerInputs,
    LayerOutput,
    small_encoder,
    with_velocity,
)


class SafetyLayer(HierarchyLayer):
    """A GRU over recent states and the last action that foresees violations and, second, the next state.

    It answers for where the arm is: the denoiser hears of the newest posture precisely through this layer,
    which always runs. And it alone knows what the arm was last asked to do, and so how far it lags behind: a
    grasp, a contact or a jam is seen there first.

    Loss: binary cross-entropy of "a violation within the next K frames", on the data's own histories and on
    the same histories with an injected violation, plus the error of the forward model.

    Args:
        state_dim (`int`): State width.
        action_dim (`int`): Action width.
        dim (`int`): GRU width.
        observation_steps (`int`): Observation frames O.
        posture_dim (`int`): Width of the encoded posture; 0 where the denoiser has it already.
    """

    def __init__(
        self, state_dim: int, action_dim: int, dim: int, observation_steps: int, posture_dim: int
    ) -> None:
        super().__init__(dim)
        self.state_dim = state_dim
        self.posture = small_encoder(observation_steps * state_dim, posture_dim) if posture_dim else None
        self.gru = nn.GRU(2 * state_dim, dim, batch_first=True)
        self.command = nn.Sequential(nn.Linear(action_dim + 1, dim), nn.GELU(), nn.Linear(dim, dim))
        self.violation = nn.Linear(dim, 1)
        self.forward_model = nn.Sequential(
            nn.Linear(dim + action_dim, dim), nn.GELU(), nn.Linear(dim, state_dim)
        )

    def forward(self, inputs: LayerInputs, context: LayerContext) -> LayerOutput:
        """Return features, the posture, the loss, and `score` (B,): the probability of a violation."""
        scale = context.motion.velocity_scale()
        posture = None
        if self.posture is not None:
            posture = self.posture(inputs.observation[..., : self.state_dim].flatten(1))
        if context.targets is None:
            features = self._encode(inputs.history, inputs.command, scale)
            return LayerOutput(features, None, {"score": self._logit(features).sigmoid()}, posture)

        labels, velocity_limit = self._labels(context)
        low, high = self._finite_limits(context)
        unsafe, unsafe_command = injected_violations(
            inputs.history, low, high, velocity_limit, inputs.command, self._tracking_limit(context, scale)
        )
        histories, commands = torch.cat([inputs.history, unsafe]), torch.cat([inputs.command, unsafe_command])
        both = self._encode(histories, commands, scale)  # (2 B, D)
        features, unsafe_features = both.chunk(2)
        logit, unsafe_logit = self._logit(features), self._logit(unsafe_features)
        detection = 0.5 * (
            F.binary_cross_entropy_with_logits(logit, labels, reduction="none")
            + F.binary_cross_entropy_with_logits(unsafe_logit, torch.ones_like(labels), reduction="none")
        )
        loss = detection + self._forward_loss(features, inputs, context, scale)
        return LayerOutput(
            features,
            loss,
            {"score": logit.sigmoid(), "injected_score": unsafe_logit.sigmoid(), "label": labels},
            posture,
        )

    def _encode(self, history: Tensor, command: Tensor, scale: Tensor) -> Tensor:
        hidden: Tensor = self.gru(with_velocity(history, scale))[0]
        features: Tensor = hidden[:, -1] + self.command(command)
        return features

    def _logit(self, features: Tensor) -> Tensor:
        logit: Tensor = self.violation(features)
        return logit[:, 0]

    @staticmethod
    def _labels(context: LayerContext) -> tuple[Tensor, Tensor]:
        targets = context.targets
        assert targets is not None
        velocity_limit = context.motion.velocity_quantile.value()
        labels = violation_labels(
            targets.future,
            targets.velocity,
            targets.future_valid,
            low=context.limits.state_low,
            high=context.limits.state_high,
            velocity_limit=velocity_limit,
            tracking=targets.tracking,
            tracking_limit=context.motion.tracking_quantile.value(),
        )
        # Unknown (infinite) before the first training step, and nothing at all for a joint that never moves.
        return labels, velocity_limit.clamp(1e-2, 1.0)

    @staticmethod
    def _tracking_limit(context: LayerContext, scale: Tensor) -> Tensor | None:
        """Largest usual distance (S,) from the commanded position, in usual velocities; None without one."""
        if context.targets is None or context.targets.tracking is None:
            return None
        return (context.motion.tracking_quantile.value() / scale).clamp(1.0, COMMAND_CLIP)

    @staticmethod
    def _finite_limits(context: LayerContext) -> tuple[Tensor, Tensor]:
        """Limits for injected violations; without dataset statistics the normalised range serves."""
        low, high = context.limits.state_low, context.limits.state_high
        return torch.where(low.isfinite(), low, -1.5), torch.where(high.isfinite(), high, 1.5)

    def _forward_loss(
        self, features: Tensor, inputs: LayerInputs, context: LayerContext, scale: Tensor
    ) -> Tensor:
        targets = context.targets
        assert targets is not None
        change: Tensor = self.forward_model(torch.cat([features, targets.actions[:, 0]], dim=-1))
        wanted = (targets.future[:, 0] - inputs.history[:, -1]) / scale
        error = F.smooth_l1_loss(change, wanted, reduction="none")
        return masked_mean(error[:, None], targets.future_valid[:, :1] & targets.actions_valid[:, :1])
