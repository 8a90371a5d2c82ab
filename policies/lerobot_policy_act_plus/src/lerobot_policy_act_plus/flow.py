# SPDX-License-Identifier: Apache-2.0
"""Flow matching over action chunks, in LeRobot's convention: noise at time 1, actions at time 0.

    x_t = t ε + (1 - t) a,   u = ε - a,   L = |v(x_t, t) - u|²

Paper: "Flow Matching for Generative Modeling" (Lipman et al., 2023), https://arxiv.org/abs/2210.02747; the
times are drawn as in openpi. Differences: committed actions take part as they are and count no loss; the
network may say the clean chunk a instead of u (`flow_target="actions"`), of which u = (x_t - a) / t. "Back to
Basics: Let Denoising Generative Models Denoise" (Li, He, 2025), https://arxiv.org/abs/2511.13720, recommends
that; its loss is the one above, here it is |a(x_t, t) - a|², the same weighted by t².
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from lerobot.policies.common.flow_matching import sample_time_beta
from torch import Tensor, nn

from lerobot_ext.nn.embeddings import SinusoidalEmbedding

Velocity = Callable[[Tensor, Tensor], Tensor]
"""From x (B, T, A) and its time (B,) to the velocity (B, T, A)."""


def draw_times(batch: int, device: torch.device) -> Tensor:
    """Times (B,) in (0, 1], more of them near the noise."""
    times: Tensor = sample_time_beta(batch, device, alpha=1.5, beta=1.0, scale=0.999, offset=0.001)
    return times


def integrate(velocity: Velocity, start: Tensor, time: float, steps: int, solver: str) -> Tensor:
    """Follow the velocity from `time` to 0.

    Args:
        velocity (`Velocity`): The network.
        start (`Tensor`): (B, T, A) where to begin.
        time (`float`): Share of noise in it.
        steps (`int`): Steps of equal length.
        solver (`str`): `"euler"` or `"midpoint"`.

    Returns:
        `Tensor`: (B, T, A).
    """
    x, length = start, time / steps
    for step in range(steps):
        now = time - step * length
        slope = velocity(x, x.new_full((len(x),), now))
        if solver == "midpoint":
            middle = x - length / 2 * slope
            slope = velocity(middle, x.new_full((len(x),), now - length / 2))
        x = x - length * slope
    return x


def towards(x: Tensor, clean: Tensor, time: Tensor) -> Tensor:
    """The velocity (B, T, A) that leads from x (B, T, A), at its time (B,) above 0, to a clean chunk."""
    return (x - clean) / time[:, None, None]


class FlowEmbedding(nn.Module):
    """Noisy actions and their time as decoder inputs.

    Args:
        action_dim (`int`): Width A of an action.
        dim (`int`): Width D of the decoder.
    """

    def __init__(self, action_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(action_dim, dim)
        self.time = nn.Sequential(
            SinusoidalEmbedding(dim), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )

    def forward(self, actions: Tensor, time: Tensor) -> Tensor:
        """Embed `actions` (B, T, A) at `time` (B,); returns (B, T, D)."""
        embedded: Tensor = self.project(actions) + self.time(time * 1000)[:, None]
        return embedded
