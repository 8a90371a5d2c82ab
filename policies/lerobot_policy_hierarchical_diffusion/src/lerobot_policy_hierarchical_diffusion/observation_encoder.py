# SPDX-License-Identifier: Apache-2.0
"""What conditions the denoiser beside the layers: everything that no layer of the policy looks at.

    layer           owns
    safety          the newest states and the last action
    dynamics        the consecutive states before them
    manipulation    cameras and environment state
    planning        the strided memory and the task's text

All layers look at the newest state, each for its own ends; that the denoiser hears of it precisely is the
safety layer's part. With all four layers nothing is left to encode here. A policy without layers has one
encoder with all the inputs that the layers would have: the flat policy that a hierarchy is to be compared
with.

Legend: `B` batch, `O` observation steps, `C` condition width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig
from .layers.base import LayerInputs, small_encoder, with_velocity
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
            "safety": config.n_obs_steps * state + action + 1,
            "dynamics": config.dynamics_history * 2 * state,
            "manipulation": config.n_obs_steps * (env + images) + config.manipulation_dim * bool(images),
            "planning": config.planning_history * (state + env) + config.planning_dim,
        }
        width = sum(size for name, size in owned.items() if name not in self.layers)
        self.dim = config.condition_dim if width else 0
        self.net = small_encoder(width, self.dim) if width else None

    def forward(self, inputs: LayerInputs, velocity_scale: Tensor) -> Tensor:
        """Encode.

        Args:
            inputs (`LayerInputs`): All inputs; those of the layers are left alone.
            velocity_scale (`Tensor`): (S,) usual velocities.

        Returns:
            `Tensor`: (B, C); (B, 0) where the layers own everything.
        """
        if self.net is None:
            return inputs.command[:, :0]
        parts: list[Tensor] = []
        if "safety" not in self.layers:
            parts += [inputs.observation[..., : self.state_dim], inputs.command]
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
