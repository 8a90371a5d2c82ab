# SPDX-License-Identifier: Apache-2.0
"""Config behind `--teleop.type=koch_leader` once this plugin is installed."""

from dataclasses import dataclass

from lerobot.teleoperators.config import TeleoperatorConfig
from lerobot.teleoperators.koch_leader import KochLeaderConfig

from lerobot_ext.overrides import replace_choice
from lerobot_robot_koch.config_retries import NUM_READ_RETRIES, NUM_WRITE_RETRIES, check_retries


@dataclass(kw_only=True)
class RobustKochLeaderConfig(KochLeaderConfig):
    """Stock Koch leader plus retries.

    Args:
        num_read_retries (`int`, *optional*, defaults to `3`): Further tries after a failed read or ping.
        num_write_retries (`int`, *optional*, defaults to `5`): Further tries after a failed acknowledged
            write.

    Raises:
        ValueError: A retry count is negative.
    """

    # Further tries after a failed read or ping
    num_read_retries: int = NUM_READ_RETRIES
    # Further tries after a failed acknowledged write
    num_write_retries: int = NUM_WRITE_RETRIES

    def __post_init__(self) -> None:
        check_retries(num_read_retries=self.num_read_retries, num_write_retries=self.num_write_retries)

    @property
    def type(self) -> str:
        """See `RobustKochFollowerConfig.type`."""
        return "koch_leader_robust"


replace_choice(TeleoperatorConfig, "koch_leader", RobustKochLeaderConfig)
