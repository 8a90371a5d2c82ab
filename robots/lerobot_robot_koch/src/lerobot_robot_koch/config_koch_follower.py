# SPDX-License-Identifier: Apache-2.0
"""Config behind `--robot.type=koch_follower` once this plugin is installed."""

from dataclasses import dataclass

from lerobot.robots.config import RobotConfig
from lerobot.robots.koch_follower import KochFollowerConfig

from lerobot_ext.overrides import replace_choice
from lerobot_ext.pipelines.config import PipelineField
from lerobot_robot_koch.config_bus import BusFields
from lerobot_robot_koch.config_tracker import TrackerConfig

ON_BUS_LOSS = ("relax", "hold")


@dataclass(kw_only=True)
class RobustKochFollowerConfig(BusFields, PipelineField, KochFollowerConfig):
    """Stock Koch follower plus the bus fields, a file of steps and an optional object tracker.

    Args:
        on_bus_loss (`str`, *optional*, defaults to `"relax"`): What the arm does when a session ends because
            a bus was lost, its own or the leader's: `relax` cuts the torque, as stock does, and the arm
            falls; `hold` leaves the torque on.
        tracker (`TrackerConfig | None`, *optional*): Publisher of object poses that are appended to the
            state.

    Raises:
        ValueError: A field's value cannot work; the message names it.
    """

    # What the arm does when a session ends because a bus was lost: relax (as stock) or hold
    on_bus_loss: str = "relax"
    # Publisher of object poses that are appended to the state
    tracker: TrackerConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on_bus_loss not in ON_BUS_LOSS:
            raise ValueError(f"`on_bus_loss` ({self.on_bus_loss!r}) must be {' or '.join(ON_BUS_LOSS)}.")

    @property
    def type(self) -> str:
        """A name for which LeRobot's factory has no branch, so that it builds this config's own class.

        The registry, not this property, decides what `--robot.type=koch_follower` means and what a saved
        config says.
        """
        return "koch_follower_robust"


replace_choice(RobotConfig, "koch_follower", RobustKochFollowerConfig)
