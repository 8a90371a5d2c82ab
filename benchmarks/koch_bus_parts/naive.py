# SPDX-License-Identifier: Apache-2.0
"""The fix one finds on the web: LeRobot's own bus with `num_retry` raised on every call, and nothing else."""

from typing import Any

from lerobot.motors.dynamixel import DynamixelMotorsBus
from lerobot.robots.koch_follower import KochFollower
from lerobot.teleoperators.koch_leader import KochLeader

from koch_bus_parts.config_naive import NaiveKochFollowerConfig, NaiveKochLeaderConfig

NUM_RETRY = 5


class NaiveBus(DynamixelMotorsBus):  # type: ignore[misc]
    """Stock's bus; every call tries at least `NUM_RETRY` times more after a failure."""

    @classmethod
    def replacing(cls, bus: DynamixelMotorsBus) -> "NaiveBus":
        """The same port, motors and calibration; `bus` is not connected yet."""
        return cls(bus.port, bus.motors, bus.calibration)

    def ping(self, motor: Any, num_retry: int = 0, raise_on_error: bool = False) -> Any:
        """See `DynamixelMotorsBus.ping`."""
        return super().ping(motor, max(num_retry, NUM_RETRY), raise_on_error)

    def read(self, *args: Any, num_retry: int = 0, **kwargs: Any) -> Any:
        """See `DynamixelMotorsBus.read`."""
        return super().read(*args, num_retry=max(num_retry, NUM_RETRY), **kwargs)

    def write(self, *args: Any, num_retry: int = 0, **kwargs: Any) -> None:
        """See `DynamixelMotorsBus.write`."""
        super().write(*args, num_retry=max(num_retry, NUM_RETRY), **kwargs)

    def sync_read(self, *args: Any, num_retry: int = 0, **kwargs: Any) -> Any:
        """See `DynamixelMotorsBus.sync_read`."""
        return super().sync_read(*args, num_retry=max(num_retry, NUM_RETRY), **kwargs)

    def sync_write(self, *args: Any, num_retry: int = 0, **kwargs: Any) -> None:
        """See `DynamixelMotorsBus.sync_write`."""
        super().sync_write(*args, num_retry=max(num_retry, NUM_RETRY), **kwargs)

    def _read(self, *args: Any, num_retry: int = 0, **kwargs: Any) -> Any:
        return super()._read(*args, num_retry=max(num_retry, NUM_RETRY), **kwargs)

    def _write(self, *args: Any, num_retry: int = 0, **kwargs: Any) -> Any:
        return super()._write(*args, num_retry=max(num_retry, NUM_RETRY), **kwargs)


class NaiveKochFollower(KochFollower):  # type: ignore[misc]
    """Stock follower on a `NaiveBus`."""

    config_class = NaiveKochFollowerConfig

    def __init__(self, config: NaiveKochFollowerConfig) -> None:
        super().__init__(config)
        self.bus = NaiveBus.replacing(self.bus)


class NaiveKochLeader(KochLeader):  # type: ignore[misc]
    """Stock leader on a `NaiveBus`."""

    config_class = NaiveKochLeaderConfig

    def __init__(self, config: NaiveKochLeaderConfig) -> None:
        super().__init__(config)
        self.bus = NaiveBus.replacing(self.bus)
