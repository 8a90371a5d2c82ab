# SPDX-License-Identifier: Apache-2.0
"""What conditions the denoiser beside the layers: everything that no layer of the policy looks at.

    layer           owns
    safety          the last action
    dynamics        the newest consecutive states
    manipulation    cameras and environment state
    planning        the strided memory and the task's text

The newest state is everybody's. A policy without layers so has one encoder with all the inputs that the
layers would have: the flat policy that a hierarchy is to be compared with.

Legend: `B` batch, `O` observation steps, `C` condition width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig
from .layers.base import LayerInputs, with_velocity
from .statistics import feature_widths


class ObservationEncoder(nn.Module):
    """A small MLP over what is left to it.

    Args:
        config (`HierarchicalDiffusionConfig`): Complete configuration.
    """

    def __init__(self, config: HierarchicalDiffusionConfig) -> None:
        super().__init__()
        self.layers = frozenset(config.layers)
        state, action, env = feature_widths(config)
        self.state_dim = state
        images = len(config.image_features) * config.manipulation_dim
        owned = {
            "safety": action + 1,
            "dynamics": config.dynamics_history * 2 * state,
            "manipulation": config.n_obs_steps * (env + images) + config.manipulation_dim * bool(images),
            "planning": config.planning_history * (state + env) + config.planning_dim,
        }
        width = config.n_obs_steps * state + sum(n for name, n in owned.items() if name not in self.layers)
        self.dim = config.condition_dim
        self.net = nn.Sequential(nn.Linear(width, 2 * self.dim), nn.GELU(), nn.Linear(2 * self.dim, self.dim))

    def forward(self, inputs: LayerInputs, velocity_scale: Tensor) -> Tensor:
        """Encode.

        Args:
            inputs (`LayerInputs`): All inputs; those of the layers are left alone.
            velocity_scale (`Tensor`): (S,) usual velocities.

        Returns:
            `Tensor`: (B, C).
        """
        parts = [inputs.observation[..., : self.state_dim]]
        if "safety" not in self.layers:
            parts.append(inputs.command)
        if "dynamics" not in self.layers:
            parts.append(with_velocity(inputs.motion, velocity_scale))
        if "manipulation" not in self.layers:
            parts.append(inputs.observation[..., self.state_dim :])
            if inputs.image_tokens is not None and inputs.image_pooled is not None:
                parts += [inputs.image_pooled, inputs.image_tokens.mean(1)]
        if "planning" not in self.layers:
            parts += [inputs.memory, inputs.task]
        encoded: Tensor = self.net(torch.cat([part.flatten(1) for part in parts], dim=-1))
        return encoded
