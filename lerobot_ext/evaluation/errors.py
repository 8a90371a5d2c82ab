# SPDX-License-Identifier: Apache-2.0
"""How far predicted actions are from recorded ones: by joint, horizon step and task, with intervals.

Frames of one episode resemble each other, so every interval is over episodes (`ratio_interval`).

Shapes: `K` predictions of an episode, `H` horizon steps of each (1 for `select_action`), `A` joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lerobot_ext.intervals import Estimate, ratio_interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EpisodeErrors:
    """Predicted minus recorded actions of one episode.

    Args:
        values (`Floats`): (K, H, A) in the dataset's units; NaN where there is nothing to compare with, such
            as behind the episode's end.
        tasks (`tuple[str, ...]`): The task at each prediction, K of them.
    """

    values: Floats
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """Errors of one predictor.

    Args:
        mse (`Estimate`), l1 (`Estimate`): Mean over all joints and samples.
        max (`float`): Greatest absolute error of any joint.
        n (`int`): Samples compared (predicted actions, each of all joints).
        joint_mse (`list[Estimate]`), joint_l1 (`list[Estimate]`), joint_max (`list[float]`): By joint.
    """

    mse: Estimate
    l1: Estimate
    max: float
    n: int
    joint_mse: list[Estimate]
    joint_l1: list[Estimate]
    joint_max: list[float]


@dataclass(frozen=True)
class Breakdown:
    """A predictor's errors, whole and in parts.

    Args:
        whole (`Summary`): Over everything.
        by_horizon (`list[Summary]`): By step of the chunk, the first one the present frame's; a single one
            for `select_action`.
        by_task (`dict[str, Summary]`): By task text, where there is more than one.
    """

    whole: Summary
    by_horizon: list[Summary] = field(default_factory=list)
    by_task: dict[str, Summary] = field(default_factory=dict)


def break_down(episodes: Sequence[EpisodeErrors]) -> Breakdown:
    """Sum up the errors of one predictor.

    Args:
        episodes (`Sequence[EpisodeErrors]`): At least one.
    """
    values = [episode.values for episode in episodes]
    horizon = values[0].shape[1]
    tasks = list(dict.fromkeys(task for episode in episodes for task in episode.tasks))
    return Breakdown(
        whole=summarize(values),
        by_horizon=[summarize([array[:, step : step + 1] for array in values]) for step in range(horizon)],
        by_task={task: summarize([_of_task(episode, task) for episode in episodes]) for task in tasks}
        if len(tasks) > 1
        else {},
    )


def _of_task(episode: EpisodeErrors, task: str) -> Floats:
    mask = np.array([name == task for name in episode.tasks], dtype=bool)
    chosen: Floats = episode.values[mask]
    return chosen


def summarize(episodes: Sequence[Floats]) -> Summary:
    """Sum up errors.

    Args:
        episodes (`Sequence[Floats]`): (K, H, A) each, NaN where there is nothing to compare.
    """
    joints = episodes[0].shape[2]
    flat = [array.reshape(-1, joints) for array in episodes]
    kept = [array[~np.isnan(array).any(axis=1)] for array in flat]  # (N, A) each
    counts = [float(len(array)) for array in kept]
    squares = np.stack([(array**2).sum(axis=0) for array in kept])  # (episodes, A)
    absolutes = np.stack([np.abs(array).sum(axis=0) for array in kept])
    greatest = np.stack(
        [np.abs(array).max(axis=0) if len(array) else np.full(joints, -np.inf) for array in kept]
    ).max(axis=0)
    return Summary(
        mse=ratio_interval(squares.mean(axis=1).tolist(), counts),
        l1=ratio_interval(absolutes.mean(axis=1).tolist(), counts),
        max=_finite(greatest.max()),
        n=int(sum(counts)),
        joint_mse=[ratio_interval(squares[:, joint].tolist(), counts) for joint in range(joints)],
        joint_l1=[ratio_interval(absolutes[:, joint].tolist(), counts) for joint in range(joints)],
        joint_max=[_finite(value) for value in greatest],
    )


def _finite(value: float) -> float:
    """NaN for the maximum of nothing."""
    return float(value) if np.isfinite(value) else float("nan")
