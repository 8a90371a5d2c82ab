# SPDX-License-Identifier: Apache-2.0
"""Plans with the layers and denoising steps that a latency budget allows."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from torch import Tensor

from ..configuration_hierarchical_diffusion import MAX_INFERENCE_STEPS
from ..network import HierarchicalDiffusionNetwork, Observation
from ..sampling import Committed
from ..slow_layers import SlowLayers
from .calibrate import measure_costs
from .chooser import Chooser
from .table import Choice, LatencyTable, choices, machine_name

logger = logging.getLogger(__name__)


class TimedPlanner:
    """Runs a network so that each plan is ready in time.

    Args:
        stored (`LatencyTable`, *optional*): The checkpoint's table. Its costs are used on the machine they
            were measured on; elsewhere they are measured at the first plan.
        usual_steps (`int`): Most denoising steps where no errors were measured that would justify more.
    """

    def __init__(self, stored: LatencyTable | None, usual_steps: int) -> None:
        self._stored = stored
        self._errors = stored.errors if stored is not None else {}
        self._most_steps = MAX_INFERENCE_STEPS if self._errors else max(1, usual_steps)
        self._choosers: dict[tuple[str, int], Chooser] = {}

    def plan(
        self,
        network: HierarchicalDiffusionNetwork,
        observation: Observation,
        noise: Tensor | None,
        enabled: frozenset[str],
        budget_ms: float,
        committed: Committed | None = None,
        slow: SlowLayers | None = None,
        started: float | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Plan as `network.plan`; the information also holds `budget_ms` and `within_budget`."""
        started = time.perf_counter() if started is None else started
        chooser = self._chooser_for(network, observation, budget_ms)
        allowed = self._allowed(network.names, enabled & network.trained_layers())
        spent_ms = 1e3 * (time.perf_counter() - started)
        choice = chooser.choose(allowed, spent_ms)
        chunk, info = network.plan(
            observation,
            noise,
            choice.steps,
            enabled & set(network.names[: choice.layers]),
            lambda elapsed_ms, fewest: chooser.steps_in_time(choice, elapsed_ms, fewest),
            committed,
            slow,
            started,
        )
        took_ms = info["ms"]["total"]
        chooser.learn(Choice(choice.layers, info["steps"]), took_ms - info["ms"]["remember"])
        return chunk, info | {"budget_ms": budget_ms, "within_budget": took_ms <= budget_ms}

    def _allowed(self, names: tuple[str, ...], heard: frozenset[str]) -> list[Choice]:
        """Prefixes of the layers, up to one that is switched on, with all numbers of steps."""
        # A prefix costs as if all its layers ran, switched off or not: a bound, and a simple one.
        every = choices(names, self._most_steps, draft="manipulation" in heard)
        lengths = {every[0].layers} | {number for number, name in enumerate(names, start=1) if name in heard}
        return [choice for choice in every if choice.layers in lengths]

    def _chooser_for(
        self, network: HierarchicalDiffusionNetwork, observation: Observation, budget_ms: float
    ) -> Chooser:
        """The chooser for this machine and number of robots; costs that nobody has measured are measured."""
        robots, device = len(observation.state), str(observation.state.device)
        here = (machine_name(device, torch.get_num_threads()), robots)
        if here not in self._choosers:
            stored = self._stored
            if stored is None or (stored.costs.machine, 1) != here:
                logger.info(
                    "hierarchical_diffusion: no latency table of this machine for %d robot(s); measuring. "
                    "`lerobot-ext latency --policy.path=…` stores one with the checkpoint.",
                    robots,
                )
                stored = LatencyTable(measure_costs(network, observation), self._errors)
            self._choosers[here] = Chooser(stored, budget_ms)
        self._choosers[here].budget_ms = budget_ms
        return self._choosers[here]
