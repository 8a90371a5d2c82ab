# SPDX-License-Identifier: Apache-2.0
"""The picture in a model card: the course of the loss, and success rates with their intervals."""

import logging
from importlib.util import find_spec
from pathlib import Path

from lerobot_ext.hub.history import Evaluation, TrainingHistory
from lerobot_ext.intervals import wilson_interval

FILE_NAME = "training.png"
_BARS = 12

logger = logging.getLogger(__name__)


def draw(history: TrainingHistory, path: Path) -> bool:
    """Draw what there is; the same history gives the same bytes, so that a repeated push changes nothing.

    Args:
        history (`TrainingHistory`): Losses and evaluations.
        path (`Path`): The PNG to write.

    Returns:
        Whether there was anything to draw, and something to draw it with.
    """
    panels = (len(history.loss) > 1) + bool(history.evaluations)
    if panels == 0:
        return False
    if find_spec("matplotlib") is None:
        logger.warning(
            "lerobot_ext: the model card gets no picture, matplotlib is missing: `pip install matplotlib`"
        )
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * panels, 3.6), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if len(history.loss) > 1:
        _draw_loss(axes.pop(0), history)
    if history.evaluations:
        _draw_success(axes.pop(0), history.evaluations)
    # Without its version and date the file depends on the figures alone.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return True


def _draw_loss(axis: object, history: TrainingHistory) -> None:
    steps, losses = zip(*history.loss, strict=True)
    wide = min(losses) > 0 and max(losses) > 10 * min(losses)
    axis.plot(steps, losses, color="tab:blue")  # type: ignore[attr-defined]
    axis.set(  # type: ignore[attr-defined]
        xlabel="training step", ylabel="loss", yscale="log" if wide else "linear", title="Training loss"
    )
    axis.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[attr-defined]
    axis.grid(alpha=0.3)  # type: ignore[attr-defined]


def _draw_success(axis: object, evaluations: list[Evaluation]) -> None:
    shown = evaluations[-_BARS:]
    rates = [100 * entry.successes / entry.episodes for entry in shown]
    bounds = [wilson_interval(entry.successes, entry.episodes) for entry in shown]
    # At 0 and 1 the interval's end is the rate itself, up to rounding.
    below = [max(0.0, rate - 100 * low) for rate, (low, _) in zip(rates, bounds, strict=True)]
    above = [max(0.0, 100 * high - rate) for rate, (_, high) in zip(rates, bounds, strict=True)]
    names = [entry.task if entry.step is None else f"{entry.task}\n@{entry.step}" for entry in shown]
    axis.bar(range(len(shown)), rates, yerr=[below, above], color="tab:green", alpha=0.7, capsize=4)  # type: ignore[attr-defined]
    axis.set_xticks(range(len(shown)), names, fontsize=8)  # type: ignore[attr-defined]
    axis.set(ylim=(0, 100), ylabel="success, %", title="Success with 95 % intervals")  # type: ignore[attr-defined]
