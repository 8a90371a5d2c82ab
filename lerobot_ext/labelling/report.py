# SPDX-License-Identifier: Apache-2.0
"""What labels amount to: numbers for the screen, and a picture of the returns."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lerobot_ext.labelling.episodes import Labelled
from lerobot_ext.labelling.sources import Labels


@dataclass(frozen=True)
class Summary:
    """Labels in numbers.

    Args:
        episodes (`int`): How many.
        successes (`int`): How many of them succeeded.
        reward_min, reward_max (`float`): Of all steps.
        return_min, return_mean, return_max (`float`): Of whole episodes, from their first step.
        value_min, value_max (`float`): Bounds of every return: what a critic's values cannot leave.
    """

    episodes: int
    successes: int
    reward_min: float
    reward_max: float
    return_min: float
    return_mean: float
    return_max: float
    value_min: float
    value_max: float


def summary(found: Labelled, labels: Labels) -> Summary:
    """Put labels into numbers."""
    first = labels.returns[found.starts]
    return Summary(
        len(found.lengths),
        int(labels.success.sum()),
        float(labels.reward.min()),
        float(labels.reward.max()),
        float(first.min()),
        float(first.mean()),
        float(first.max()),
        float(labels.returns.min()),
        float(labels.returns.max()),
    )


def draw(found: Labelled, labels: Labels, discount: float) -> Any:
    """A figure: returns of episodes, and how they run within them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    first = labels.returns[found.starts]
    bins = np.histogram_bin_edges(first, 30).tolist()
    for won, name, color in ((True, "success", "tab:green"), (False, "failure", "tab:red")):
        left.hist(first[labels.success == won], bins, label=name, color=color, alpha=0.7)
    left.set(xlabel=f"return of an episode (discount {discount:g})", ylabel="episodes")
    left.legend()
    for episode in np.unique(np.linspace(0, len(found.lengths) - 1, 30).astype(int)).tolist():
        start, length = found.starts[episode], found.lengths[episode]
        color = "tab:green" if labels.success[episode] else "tab:red"
        right.plot(labels.returns[start : start + length], color=color, alpha=0.5, linewidth=1)
    right.set(xlabel="step", ylabel="return from this step on")
    return figure
