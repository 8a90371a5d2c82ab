# SPDX-License-Identifier: Apache-2.0
"""What happens where one chunk follows another: temporal ensembling and blending.

Legend: `B` batch, `T` chunk, `A` action width.
"""

from __future__ import annotations

import torch
from lerobot.policies.act.modeling_act import ACTTemporalEnsembler
from torch import Tensor


class ChunkEnsembler(ACTTemporalEnsembler):
    """Stock ACT's temporal ensembling for chunks that are planned every `steps` frames.

    With `steps` 1 it is stock ACT's, to the bit. An action is the mean of the predictions of all chunks that
    hold it, the i-th oldest weighted `exp(-coefficient * i)`.

    Args:
        coefficient (`float`): 0 weights all chunks alike, more favours the older ones.
        chunk_size (`int`): Length T of a chunk.
        steps (`int`): Actions that are run of each chunk.
    """

    ensemble_weights: Tensor
    ensemble_weights_cumsum: Tensor
    ensembled_actions: Tensor | None
    ensembled_actions_count: Tensor

    def __init__(self, coefficient: float, chunk_size: int, steps: int) -> None:
        super().__init__(coefficient, chunk_size)
        self.steps = steps

    def update(self, actions: Tensor) -> Tensor:
        """Take a chunk (B, T, A) into the ensemble and return the next `steps` actions (B, steps, A)."""
        weights = self.ensemble_weights = self.ensemble_weights.to(actions.device)
        sums = self.ensemble_weights_cumsum = self.ensemble_weights_cumsum.to(actions.device)
        if self.ensembled_actions is None:
            mean = actions.clone()
            count = torch.ones((self.chunk_size, 1), dtype=torch.long, device=actions.device)
        else:
            mean, count = self.ensembled_actions, self.ensembled_actions_count
            known = mean.shape[1]
            mean = mean * sums[count - 1]
            mean = mean + actions[:, :known] * weights[count]
            mean = mean / sums[count]
            count = torch.clamp(count + 1, max=self.chunk_size)
            mean = torch.cat([mean, actions[:, known:]], dim=1)
            count = torch.cat([count, count.new_ones(self.chunk_size - known, 1)])
        self.ensembled_actions = mean[:, self.steps :]
        self.ensembled_actions_count = count[self.steps :]
        return mean[:, : self.steps]


def blended(chunk: Tensor, left: Tensor, start: int, steps: int) -> Tensor:
    """Fade a new chunk in over what is left of the last one.

    Args:
        chunk (`Tensor`): (B, T, A) the new one.
        left (`Tensor`): (B, N, A) what is left, the next action first.
        start (`int`): First action of the fade.
        steps (`int`): Its length; it ends sooner where less is left.

    Returns:
        `Tensor`: (B, T, A).
    """
    end = min(start + steps, left.shape[1], chunk.shape[1])
    if end <= start:
        return chunk
    share = torch.arange(1, end - start + 1, device=chunk.device, dtype=chunk.dtype)[:, None] / (steps + 1)
    faded = chunk.clone()
    faded[:, start:end] = torch.lerp(left[:, start:end].to(chunk), chunk[:, start:end], share)
    return faded
