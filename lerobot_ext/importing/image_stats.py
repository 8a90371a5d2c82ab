# SPDX-License-Identifier: Apache-2.0
"""Statistics of pictures while they stream by: a histogram of each channel, of the frames LeRobot samples.

LeRobot's `compute_episode_stats` reads sampled frames back from files and sorts their pixels into 5000 bins.
Pixels are bytes: 256 counts hold all there is to know. Mean, deviation, minimum, maximum and count come out
as LeRobot's, quantiles within one of its bins (0.0002 of the range 0…1).
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lerobot.datasets.compute_stats import DEFAULT_QUANTILES, auto_downsample_height_width, sample_indices

Counts = npt.NDArray[np.int64]
Stats = dict[str, npt.NDArray[Any]]
LEVELS: Final = 256


class SampledFrames:
    """Which frames of an episode count, as LeRobot chooses them."""

    def __init__(self, length: int) -> None:
        self._chosen = np.zeros(length, bool)
        self._chosen[sample_indices(length)] = True

    def __contains__(self, frame: int) -> bool:
        return bool(self._chosen[frame])

    def __len__(self) -> int:
        return int(self._chosen.sum())


def histogram(picture: npt.NDArray[np.uint8]) -> Counts:
    """(3, 256) how often each channel has each value, in the pixels that LeRobot looks at.

    Args:
        picture (`np.ndarray`): (H, W, 3) uint8.
    """
    small = auto_downsample_height_width(picture.transpose(2, 0, 1))  # (3, H, W)
    return np.stack([np.bincount(channel.ravel(), minlength=LEVELS) for channel in small])


def stats_of(counts: Counts, n_frames: int) -> Stats:
    """Statistics in the shapes that LeRobot has for a camera, in 0…1.

    Args:
        counts (`np.ndarray`): (3, 256) summed histograms.
        n_frames (`int`): Frames they are of.
    """
    levels = np.arange(LEVELS)
    total = counts.sum(1)
    mean = counts @ levels / total
    variance = counts @ levels**2 / total - mean**2
    present = counts > 0
    stats: Stats = {
        "min": present.argmax(1),
        "max": LEVELS - 1 - present[:, ::-1].argmax(1),
        "mean": mean,
        "std": np.sqrt(np.maximum(variance, 0)),
    }
    below = counts.cumsum(1)
    for quantile in DEFAULT_QUANTILES:
        stats[f"q{int(quantile * 100):02d}"] = (below >= quantile * total[:, None]).argmax(1)
    scaled = {key: (value / 255.0).reshape(3, 1, 1) for key, value in stats.items()}
    return scaled | {"count": np.array([n_frames])}
