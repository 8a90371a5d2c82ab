# SPDX-License-Identifier: Apache-2.0
"""The teleoperator: joints that sway."""

import math
import time
from dataclasses import dataclass
from typing import Any

from lerobot.teleoperators import Teleoperator
from lerobot.teleoperators.config import TeleoperatorConfig

from recording_parts.bench_robot import JOINTS


@TeleoperatorConfig.register_subclass("bench_hand")
@dataclass(kw_only=True)
class BenchHandConfig(TeleoperatorConfig):
    """Nothing to configure."""


class BenchHand(Teleoperator):
    """See the module."""

    config_class = BenchHandConfig
    name = "bench_hand"
    is_calibrated = True
    action_features = JOINTS
    feedback_features: dict[str, type] = {}  # noqa: RUF012 - LeRobot declares it so

    def __init__(self, config: BenchHandConfig) -> None:
        super().__init__(config)
        self._on = False

    @property
    def is_connected(self) -> bool:
        """Whether it was connected."""
        return self._on

    def connect(self, calibrate: bool = True) -> None:
        """From now on."""
        self._on = True

    def calibrate(self) -> None:
        """Nothing to do."""

    def configure(self) -> None:
        """Nothing to do."""

    def get_action(self) -> dict[str, Any]:
        """All joints alike."""
        return dict.fromkeys(JOINTS, 30 * math.sin(time.perf_counter()))

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """Nothing to feel."""

    def disconnect(self) -> None:
        """From now on not any more."""
        self._on = False
