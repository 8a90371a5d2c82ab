# SPDX-License-Identifier: Apache-2.0
"""How smoothly actions follow each other, and whether they jump where one chunk ends and the next begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lerobot_ext.evaluation.errors import Floats

_ORDER = 3  # jerk is the third derivative of position


@dataclass(frozen=True)
class Smoothness:
    """Root mean squares over joints and episodes, in the dataset's units.

    Args:
        jerk (`float`), recorded_jerk (`float`): Third difference times fps³ of what was predicted and of what
            was recorded, in units/s³; NaN where every episode is shorter than four frames.
        boundaries (`int`): Frames at which a new chunk begins inside an episode.
        seam (`float`), recorded_seam (`float`): Change of the action at such frames, from the frame before;
            NaN where there is none.
        inside (`float`): The same at the other frames, of what was predicted.
    """

    jerk: float
    recorded_jerk: float
    boundaries: int
    seam: float
    recorded_seam: float
    inside: float


def smoothness(
    predicted: Sequence[Floats], recorded: Sequence[Floats], boundaries: Sequence[Sequence[int]], fps: float
) -> Smoothness:
    """Compare predicted with recorded actions.

    Args:
        predicted (`Sequence[Floats]`): (T, A) of each episode, one action a frame.
        recorded (`Sequence[Floats]`): As many.
        boundaries (`Sequence[Sequence[int]]`): Frames of each episode at which a chunk begins; frame 0 does
            not count, nothing comes before it.
        fps (`float`): Frames a second.
    """
    seams, theirs, inside = [], [], []
    count = 0
    for mine, other, begins in zip(predicted, recorded, boundaries, strict=True):
        steps = np.zeros(max(len(mine) - 1, 0), dtype=bool)
        steps[[frame - 1 for frame in begins if 0 < frame < len(mine)]] = True
        change = np.diff(mine, axis=0)
        count += int(steps.sum())
        seams.append(change[steps])
        inside.append(change[~steps])
        theirs.append(np.diff(other, axis=0)[steps])
    return Smoothness(
        jerk=_jerk(predicted, fps),
        recorded_jerk=_jerk(recorded, fps),
        boundaries=count,
        seam=_rms(seams),
        recorded_seam=_rms(theirs),
        inside=_rms(inside),
    )


def _jerk(sequences: Sequence[Floats], fps: float) -> float:
    return _rms([np.diff(sequence, n=_ORDER, axis=0) * fps**_ORDER for sequence in sequences])


def _rms(arrays: Sequence[Floats]) -> float:
    values = np.concatenate([array.reshape(-1) for array in arrays])
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
