# SPDX-License-Identifier: Apache-2.0
"""A plan as one function of tensors: encoders, layers, fusion and a fixed number of denoising steps.

What is not in the graph, because it remembers or decides: the history of observations, the task's text (its
embedding goes in), the choice of steps, the safety filter. `PlanGraph` of a policy and `policy` itself give
the same chunk, before the filter, for the same inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..fast.conditioned import Conditioned
from ..layers.base import draft_of
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
        self.enabled = frozenset(network.names[:layers])
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
        last_action: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Plan.

        Args:
            state (`Tensor`): (B, W, S) normalised states at the past offsets of the policy's window.
            environment (`Tensor`, *optional*): (B, W, E); None for a policy without environment state.
            images (`list[Tensor]`): (B, O, 3 or 1, H, W) normalised, one a camera.
            task (`Tensor`): (B, D) embedded task text, from `embed_task`.
            last_action (`Tensor`): (B, A + 1) the last normalised action and 1, or zeros if it is unknown.
            noise (`Tensor`): (B, horizon, A) standard normal.

        Returns:
            Chunk (B, horizon, A) in the normalised action space, before the safety filter; emergency score
            (B,); lowest and highest action (A,) that the filter would allow.
        """
        network = self.network
        observation = Observation(state, environment, images, [None], last_action)
        inputs = network.encoded(observation, network.frames(observation), task)
        mask = network.fixed_mask(len(state), state.device, self.enabled)
        outputs = network.run_layers(inputs, mask, enabled=self.enabled | {"safety"})
        condition = network.condition(inputs, outputs, mask)
        draft = draft_of({name: output.info for name, output in outputs.items()})
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
        score = outputs["safety"].info["score"] if "safety" in outputs else torch.zeros_like(chunk[:, 0, 0])
        return chunk, score, limits.action_low + 0, limits.action_high + 0


def embed_task(network: HierarchicalDiffusionNetwork, text: str) -> Tensor:
    """(1, D) what the graph takes for a task; once for all the plans of an episode."""
    if network.task is None:
        return torch.zeros(1, network.config.planning_dim)
    with torch.no_grad():
        embedded: Tensor = network.task([text])
    return embedded
