# SPDX-License-Identifier: Apache-2.0
"""Choices `koch_follower_naive` and `koch_leader_naive`: stock arms with `num_retry=5` on every call."""

from dataclasses import dataclass

from lerobot.robots.config import RobotConfig
from lerobot.robots.koch_follower import KochFollowerConfig
from lerobot.teleoperators.config import TeleoperatorConfig
from lerobot.teleoperators.koch_leader import KochLeaderConfig


@RobotConfig.register_subclass("koch_follower_naive")
@dataclass(kw_only=True)
class NaiveKochFollowerConfig(KochFollowerConfig):
    """As stock."""


@TeleoperatorConfig.register_subclass("koch_leader_naive")
@dataclass(kw_only=True)
class NaiveKochLeaderConfig(KochLeaderConfig):
    """As stock."""
