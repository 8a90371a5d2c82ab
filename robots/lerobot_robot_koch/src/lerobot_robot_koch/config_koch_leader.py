# SPDX-License-Identifier: Apache-2.0
"""Config behind `--teleop.type=koch_leader` once this plugin is installed."""

from dataclasses import dataclass

from lerobot.teleoperators.config import TeleoperatorConfig
from lerobot.teleoperators.koch_leader import KochLeaderConfig

from lerobot_ext.overrides import replace_choice
from lerobot_ext.pipelines.config import PipelineField
from lerobot_robot_koch.config_bus import BusFields


@dataclass(kw_only=True)
class RobustKochLeaderConfig(BusFields, PipelineField, KochLeaderConfig):
    """Stock Koch leader plus the bus fields and a file of steps."""

    @property
    def type(self) -> str:
        """See `RobustKochFollowerConfig.type`."""
        return "koch_leader_robust"


replace_choice(TeleoperatorConfig, "koch_leader", RobustKochLeaderConfig)
