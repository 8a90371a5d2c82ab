# SPDX-License-Identifier: Apache-2.0
"""How much each layer's loss counts: `w_l(task) · s_l(stage)`, or learned from the losses' own noise.

    L = L_diffusion + Σ_l w_l(task) · s_l(stage) · (e^{-η_l} · L_l + η_l)

`η` is zero and stays so unless it is learned (Kendall et al., 2018, https://arxiv.org/abs/1705.07115, with
`η = log σ²` and without the factor 1/2, which the learning rate absorbs).

Legend: `B` batch, `L` layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class LossWeights(nn.Module):
    """Weights of the layers' losses for each sample.

    Args:
        layers (`Sequence[str]`): All layers, in order.
        weights (`Mapping[str, float]`): Weight of each layer's loss; a layer that is not named has 0.
        task_weights (`Mapping[str, Mapping[str, float]]`): Other weights for the samples of some tasks, by
            the task's text or, as a decimal number, its `task_index`; layers not named keep theirs.
        learned (`bool`): Whether `η` is learned.
    """

    table: Tensor

    def __init__(
        self,
        layers: Sequence[str],
        weights: Mapping[str, float],
        task_weights: Mapping[str, Mapping[str, float]],
        *,
        learned: bool,
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.rows = {task: row for row, task in enumerate(task_weights, start=1)}
        table = [
            [named.get(name, weights.get(name, 0.0)) for name in self.layers]
            for named in ({}, *task_weights.values())
        ]
        self.register_buffer("table", torch.tensor(table), persistent=False)  # (1 + tasks, L)
        self.log_variance = nn.Parameter(torch.zeros(len(self.layers))) if learned else None

    def of(self, tasks: Sequence[str | None], task_index: Tensor | None) -> Tensor:
        """The weights (B, L), or (1, L) where all tasks are treated alike.

        Args:
            tasks (`Sequence[str | None]`): The text of each sample's task.
            task_index (`Tensor`, *optional*): (B,) its number in the dataset; a text that is named wins.
        """
        if not self.rows:
            return self.table
        numbers = [""] * len(tasks) if task_index is None else [str(i) for i in task_index.flatten().tolist()]
        rows = [
            self.rows.get(text or "", self.rows.get(number, 0))
            for text, number in zip(tasks, numbers, strict=True)
        ]
        return self.table[rows]

    def forward(self, losses: Mapping[str, Tensor], weights: Tensor, stage: Tensor) -> Tensor:
        """Sum of the layers' losses.

        Args:
            losses (`Mapping[str, Tensor]`): (B,) the loss of each layer.
            weights (`Tensor`): (B, L) or (1, L) from `of`.
            stage (`Tensor`): (L,) how far each layer takes part.

        Returns:
            (B,) the weighted sum.
        """
        if not self.layers:
            return torch.zeros_like(losses["diffusion"])
        stacked = torch.stack([losses[name] for name in self.layers], dim=1)  # (B, L)
        if self.log_variance is not None:
            stacked = stacked * (-self.log_variance).exp() + self.log_variance
        return (stacked * weights * stage).sum(1)
