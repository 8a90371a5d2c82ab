# SPDX-License-Identifier: Apache-2.0
"""Draws an offline evaluation: an episode by joint, the error over the horizon, bars by joint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lerobot_ext.evaluation.offline import CHUNK, SELECT, Evaluation, PolicyResult

if TYPE_CHECKING:
    from lerobot_ext.evaluation.episodes import Episode
    from lerobot_ext.evaluation.errors import Floats
    from lerobot_ext.intervals import Estimate

_PANEL: Final = (5.2, 2.6)  # inches
_COLUMNS: Final = 3
_GREY: Final = ("0.35", "0.5", "0.65")


def draw_all(found: Evaluation) -> dict[str, Any]:
    """The figures by file name, without its ending; no window, no global state."""
    figures = {"trajectory": _trajectory(found), "joints": _bars(found)}
    if CHUNK in found.modes:
        figures["horizon"] = _horizon(found)
    return figures


def _trajectory(found: Evaluation) -> Any:
    """Predicted and recorded actions of the first episode, a panel a joint."""
    episode, joints = found.recordings.episodes[0], found.recordings.joints
    columns = min(_COLUMNS, len(joints))
    figure, axes = _figure(len(joints), columns)
    seconds = np.arange(len(episode)) / found.recordings.fps
    for joint, (axis, name) in enumerate(zip(axes, joints, strict=False)):
        axis.plot(seconds, episode.actions[:, joint], color="black", linewidth=1.6, label="recorded")
        for index, policy in enumerate(found.policies):
            _draw_policy(axis, policy, episode, joint, found, f"C{index % 10}")
        axis.set_title(_plain(name), fontsize=9)
        axis.grid(alpha=0.3)
    for axis in axes[max(0, len(joints) - columns) : len(joints)]:
        axis.set_xlabel("s")
    axes[0].legend(fontsize=7)
    figure.suptitle(f"episode {episode.index}: {_shown(found)}", fontsize=10)
    return figure


def _shown(found: Evaluation) -> str:
    if SELECT in found.modes:
        return "actions of select_action; dots where it planned a new chunk"
    return f"chunks of predict_action_chunk, one each {found.plan.every} frames"


def _draw_policy(
    axis: Any, policy: PolicyResult, episode: Episode, joint: int, found: Evaluation, colour: str
) -> None:
    fps, label = found.recordings.fps, _plain(policy.name)
    if policy.replay.selected:
        values = policy.replay.selected[episode.index][:, joint]
        axis.plot(np.arange(len(values)) / fps, values, color=colour, linewidth=1.2, label=label)
        begins = np.array(policy.replay.planned[episode.index], dtype=int)
        if len(begins) < len(values):
            axis.plot(begins / fps, values[begins], ".", color=colour, markersize=4)
        return
    chunks: Floats = policy.replay.chunks[episode.index]
    for place, chunk in enumerate(chunks):
        start = place * found.plan.every
        shown = chunk[: len(episode) - start, joint]
        at = (start + np.arange(len(shown))) / fps
        axis.plot(at, shown, color=colour, linewidth=0.9, alpha=0.7, label=None if place else label)


def _horizon(found: Evaluation) -> Any:
    """Mean squared error by step of the chunk, with 95 % bands."""
    figure, (axis,) = _figure(1, 1, (7.0, 4.0))
    names = {policy.name for policy in found.policies}
    greys = iter(_GREY)
    colours = iter(f"C{index}" for index in range(10**6))
    for name, errors in found.predictors(CHUNK).items():
        is_policy = name in names
        colour = next(colours) if is_policy else next(greys)
        steps = [step for step, entry in enumerate(errors.by_horizon) if entry.n]
        values = [errors.by_horizon[step].mse for step in steps]
        axis.plot(
            steps,
            [value.value for value in values],
            color=colour,
            linestyle="-" if is_policy else "--",
            label=_plain(name),
            marker="o" if len(steps) == 1 else None,
        )
        if is_policy and all(value.low is not None for value in values):
            axis.fill_between(
                steps,
                [value.low for value in values],
                [value.high for value in values],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
    axis.set(xlabel="step of the chunk", title="mean squared error by horizon step (95 % over episodes)")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def _bars(found: Evaluation) -> Any:
    """Mean absolute error by joint, with 95 % whiskers."""
    mode = found.modes[0]
    predictors, joints = found.predictors(mode), found.recordings.joints
    names = {policy.name for policy in found.policies}
    figure, (axis,) = _figure(1, 1, (max(6.0, 1.4 * len(joints)), 4.0))
    width = 0.8 / len(predictors)
    greys = iter(_GREY)
    colours = iter(f"C{index}" for index in range(10**6))
    for place, (name, errors) in enumerate(predictors.items()):
        estimates = errors.whole.joint_l1
        axis.bar(
            np.arange(len(joints)) + (place - (len(predictors) - 1) / 2) * width,
            [estimate.value for estimate in estimates],
            width,
            yerr=_whiskers(estimates),
            color=next(colours) if name in names else next(greys),
            capsize=2,
            label=_plain(name),
        )
    axis.set_xticks(
        range(len(joints)), [_plain(name) for name in joints], rotation=20, ha="right", fontsize=8
    )
    axis.set_title(f"mean absolute error by joint, {mode} (95 % over episodes)")
    axis.grid(alpha=0.3, axis="y")
    axis.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _whiskers(estimates: list[Estimate]) -> list[list[float]] | None:
    pairs = [
        (estimate.value - estimate.low, estimate.high - estimate.value)
        for estimate in estimates
        if estimate.low is not None and estimate.high is not None
    ]
    if len(pairs) < len(estimates):
        return None
    return [[max(0.0, below) for below, _ in pairs], [max(0.0, above) for _, above in pairs]]


def _figure(panels: int, columns: int, size: tuple[float, float] | None = None) -> tuple[Any, Any]:
    """A figure and its axes, those without a panel switched off."""
    from matplotlib.figure import Figure

    lines = math.ceil(panels / columns)
    figure = Figure(figsize=size or (_PANEL[0] * columns, _PANEL[1] * lines + 0.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for axis in axes[panels:]:
        axis.set_axis_off()
    return figure, axes


def _plain(text: str) -> str:
    """A name as it is: matplotlib would set what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")
