# SPDX-License-Identifier: Apache-2.0
"""`--sample_weighting.type=loss_weight`: the loss of each item counts as its dataset's `loss_weight` says.

How often a dataset is drawn and how much its items count are two things: a few careful demonstrations may be
drawn often, a large noisy dataset drawn as often and counted half. LeRobot's trainer divides by the sum of
the weights in a batch, so only their ratios matter.
"""

import inspect
from typing import Any, Final

import torch
from lerobot.utils.sample_weighting import SampleWeighter

from lerobot_ext.mixing.dataset import LOSS_WEIGHT

TYPE: Final = "loss_weight"


class LossWeighter(SampleWeighter):  # type: ignore[misc]
    """Reads the weights that the items of a mix carry."""

    def compute_batch_weights(self, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, float]]:
        """The weight of each sample.

        Args:
            batch (`dict`): After the preprocessor, with `observation.loss_weight`.

        Returns:
            (B,) float32, and their mean for the log.

        Raises:
            KeyError: The batch is not from a mix whose file has a `loss_weight`.
        """
        weights = batch[LOSS_WEIGHT].to(torch.float32).flatten()
        return weights, {"mean": float(weights.mean())}

    def get_stats(self) -> dict[str, Any]:
        """Nothing beyond what each batch says."""
        return {"type": TYPE}


def make_loss_weighter(policy: Any, has_weights: bool) -> LossWeighter:
    """A weighter, if what it needs is there.

    Args:
        policy (`PreTrainedPolicy`): Whose loss is weighted; its `forward` has to take `reduction`.
        has_weights (`bool`): Whether the training's dataset is a mix with a `loss_weight`.

    Raises:
        ValueError: The dataset has no weights, or the policy gives no loss for each sample.
    """
    if not has_weights:
        raise ValueError(
            f"--sample_weighting.type={TYPE} needs a dataset spec file with a `loss_weight`; give each "
            "dataset one (1 by default), or leave the option out"
        )
    if "reduction" not in inspect.signature(policy.forward).parameters:
        raise ValueError(
            f"--sample_weighting.type={TYPE} needs a policy whose `forward` takes `reduction`, and "
            f"{type(policy).__name__} has one loss for the whole batch; weight the draws instead (`weight`)"
        )
    return LossWeighter()
