# SPDX-License-Identifier: Apache-2.0
"""Where an object tracker publishes, for the follower's `tracker` field."""

from dataclasses import dataclass, field

ENVIRONMENT_STATE = ("cube_x", "cube_y", "cube_z", "cube_yaw", "goal_x", "goal_y", "goal_z")


@dataclass
class TrackerConfig:
    """A publisher of object poses: an AprilTag node, motion capture, or the virtual bench.

    Messages are JSON on a ZeroMQ PUB socket, `{"time": s, "values": {"cube_x": 0.01, …}}`, in metres and
    radians.

    Args:
        address (`str`): ZeroMQ address of the publisher, such as `tcp://127.0.0.1:5602`.
        names (`list[str]`, *optional*): Values to append to the state, in this order; each becomes
            `<name>.pos`. The default is what the Koch environment calls its environment state.
        timeout_s (`float`, *optional*, defaults to `3.0`): How long to wait for the first message when
            connecting.
        max_age_s (`float`, *optional*, defaults to `0.5`): Oldest value that is still used.

    Raises:
        ValueError: A field's value cannot work; the message names it.
    """

    # ZeroMQ address of the publisher, e.g. tcp://127.0.0.1:5602
    address: str
    # Values to append to the state, in this order
    names: list[str] = field(default_factory=lambda: list(ENVIRONMENT_STATE))
    # Seconds to wait for the first message when connecting
    timeout_s: float = 3.0
    # Oldest value, in seconds, that is still used
    max_age_s: float = 0.5

    def __post_init__(self) -> None:
        if "://" not in self.address:
            raise ValueError(f"`tracker.address` ({self.address!r}) must be like tcp://127.0.0.1:5602.")
        if not self.names:
            raise ValueError("`tracker.names` is empty; name the values to use, or leave the tracker out.")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"`tracker.names` ({self.names}) names a value twice; name each once.")
        for name in ("timeout_s", "max_age_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`tracker.{name}` ({getattr(self, name)}) must be above 0 seconds.")
