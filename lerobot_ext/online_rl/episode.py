# SPDX-License-Identifier: Apache-2.0
"""One collected episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from lerobot.utils.constants import REWARD
from numpy.typing import NDArray

from lerobot_ext.offline_rl.labels import SUCCESS


@dataclass(frozen=True)
class Episode:
    """What happened, frame by frame.

    Args:
        columns (`dict`): Arrays (T, …) by the names of the dataset: observations (pictures (T, H, W, C)
            uint8, depth maps (T, H, W, 1) uint16 in mm), `action`, `next.reward`, `next.done`,
            `next.truncated`, `next.success`.
        tasks (`list[str]`): (T,) the instruction.
    """

    columns: dict[str, NDArray[Any]]
    tasks: list[str]

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def success(self) -> bool:
        """Whether it succeeded."""
        return bool(self.columns[SUCCESS].any())

    @property
    def total_reward(self) -> float:
        """Of all its frames."""
        return float(np.sum(self.columns[REWARD]))
