# SPDX-License-Identifier: Apache-2.0
"""Config behind `--robot.type=koch_follower` once this plugin is installed."""

from dataclasses import dataclass

from lerobot.robots.config import RobotConfig
from lerobot.robots.koch_follower import KochFollowerConfig

from lerobot_ext.overrides import replace_choice
from lerobot_robot_koch.config_retries import NUM_READ_RETRIES, NUM_WRITE_RETRIES, check_retries
from lerobot_robot_koch.config_tracker import TrackerConfig


@dataclass(kw_only=True)
class RobustKochFollowerConfig(KochFollowerConfig):
    """Stock Koch follower plus retries and an optional object tracker.

    Args:
        num_read_retries (`int`, *optional*, defaults to `3`): Further tries after a failed read or ping.
        num_write_retries (`int`, *optional*, defaults to `5`): Further tries after a failed acknowledged
            write.
        tracker (`TrackerConfig | None`, *optional*): Publisher of object poses that are appended to the
            state.

    Raises:
        ValueError: A retry count is negative.
    """

    # Further tries after a failed read or ping
    num_read_retries: int = NUM_READ_RETRIES
    # Further tries after a failed acknowledged write
    num_write_retries: int = NUM_WRITE_RETRIES
    # Publisher of object poses that are appended to the state
    tracker: TrackerConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_retries(num_read_retries=self.num_read_retries, num_write_retries=self.num_write_retries)

    @property
    def type(self) -> str:
        """A name for which LeRobot's factory has no branch, so that it builds this config's own class.

        The registry, not this property, decides what `--robot.type=koch_follower` means and what a saved
        config says.
        """
        return "koch_follower_robust"


replace_choice(RobotConfig, "koch_follower", RobustKochFollowerConfig)
