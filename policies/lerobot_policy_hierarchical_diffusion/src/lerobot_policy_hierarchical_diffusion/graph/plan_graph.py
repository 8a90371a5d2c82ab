# SPDX-License-Identifier: Apache-2.0
"""A plan as one function of tensors: encoders, layers, fusion and a fixed number of denoising steps.

What is not in the graph, because it remembers or decides: the history of observations, the task's text (its
embedding goes in), the choice of steps, the safety filter. `PlanGraph` of a policy and `policy` itself give
the same chunk, before the filter, for the same inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..configuration_hierarchical_diffusion import LAYER_NAMES
from ..fast.conditioned import Conditioned
from ..network import HierarchicalDiffusionNetwork, Observation
from ..sampling import ddim_sample, make_chain

OUTPUTS = ("chunk", "emergency_score", "limits_low", "limits_high")


class PlanGraph(nn.Module):
    """The network with layers and steps fixed.

    Args:
        network (`HierarchicalDiffusionNetwork`): In evaluation mode.
        layers (`int`): How many layers run, in priority order.
        steps (`int`): Denoising steps; 0 needs the manipulation layer's draft.
    """

    def __init__(self, network: HierarchicalDiffusionNetwork, layers: int, steps: int) -> None:
        super().__init__()
        self.network = network
        self.enabled = frozenset(LAYER_NAMES[:layers])
        self.steps = steps
        has_draft = "manipulation" in self.enabled
        # Made before the graph is traced: how the steps lie is no part of it.
        self.chain = (
            make_chain(network.scheduler, steps, network.config.draft_noise if has_draft else 1.0)
            if steps
            else None
        )

    def forward(
        self,
        state: Tensor,
        environment: Tensor | None,
        images: list[Tensor],
        task: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Plan.

        Args:
            state (`Tensor`): (B, W, S) normalised states at the past offsets of the policy's window.
            environment (`Tensor`, *optional*): (B, W, E); None for a policy without environment state.
            images (`list[Tensor]`): (B, O, 3 or 1, H, W) normalised, one a camera.
            task (`Tensor`): (B, D) embedded task text, from `embed_task`.
            noise (`Tensor`): (B, horizon, A) standard normal.

        Returns:
            Chunk (B, horizon, A) in the normalised action space, before the safety filter; emergency score
            (B,); lowest and highest action (A,) that the filter would allow.
        """
        network = self.network
        observation = Observation(state, environment, images, [None])
        inputs = network.encoded(observation, network.frames(observation), task)
        outputs = network.run_layers(inputs, enabled=self.enabled | {"safety"})
        mask = torch.tensor([[float(name in self.enabled) for name in LAYER_NAMES]], device=state.device)
        condition = network.condition(inputs, outputs, mask.expand(len(state), -1))
        draft = outputs["manipulation"].info["draft"] if "manipulation" in outputs else None
        chunk = ddim_sample(
            network.scheduler,
            Conditioned(network.denoiser, condition),
            noise,
            steps=self.steps,
            draft=draft,
            draft_noise=network.config.draft_noise,
            chain=self.chain,
        )
        limits = network.limits
        return chunk, outputs["safety"].info["score"], limits.action_low + 0, limits.action_high + 0


def embed_task(network: HierarchicalDiffusionNetwork, text: str) -> Tensor:
    """(1, D) what the graph takes for a task; once for all the plans of an episode."""
    with torch.no_grad():
        embedded: Tensor = network.task([text])
    return embedded
