# SPDX-License-Identifier: Apache-2.0
"""Reads object poses from a ZeroMQ publisher: the latest message wins, an old one is refused."""

import json
import math
import time
from typing import Any

from lerobot_robot_koch.config_tracker import TrackerConfig


class Tracker:
    """A subscriber to the values that `config` names.

    Args:
        config (`TrackerConfig`): Where to listen and for what.
    """

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config
        self._context: Any = None
        self._socket: Any = None
        self._values: dict[str, float] = {}
        self._received_s = -math.inf

    @property
    def features(self) -> dict[str, type]:
        """`<name>.pos` of each value, in order: what is appended to the robot's state."""
        return {f"{name}.pos": float for name in self.config.names}

    @property
    def is_connected(self) -> bool:
        """Whether `connect` has succeeded and `close` was not called."""
        return self._socket is not None

    def connect(self) -> None:
        """Subscribe and wait for the first message.

        Raises:
            ConnectionError: Nothing arrives within `timeout_s`, or it is not what the format asks for.
        """
        if self.is_connected:
            return
        import zmq as zmq_module

        zmq: Any = zmq_module  # mypy sees an empty module without its stubs

        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Keeps the newest message only, so that a slow reader never sees the past.
        self._socket.setsockopt(zmq.CONFLATE, 1)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            self._socket.connect(self.config.address)
            if not self._socket.poll(self.config.timeout_s * 1000):
                raise ConnectionError(
                    f"no tracker message from {self.config.address} within {self.config.timeout_s} s; start "
                    "the tracker, correct `tracker.address`, or leave `tracker` out."
                )
            self._receive()
        except zmq.ZMQError as error:
            self.close()
            raise ConnectionError(
                f"`tracker.address` ({self.config.address}) is not usable: {error}."
            ) from error
        except BaseException:
            self.close()
            raise

    def read(self) -> dict[str, float]:
        """The newest values, as `<name>.pos`.

        Raises:
            ConnectionError: `connect` has not been called, or a message is not what the format asks for.
            TimeoutError: The newest values are older than `max_age_s`.
        """
        if self._socket is None:
            raise ConnectionError("the tracker is not connected; call `connect()` first.")
        while self._socket.poll(0):
            self._receive()
        age_s = time.monotonic() - self._received_s
        if age_s > self.config.max_age_s:
            raise TimeoutError(
                f"tracker {self.config.address} has sent nothing for {age_s:.2f} s (`tracker.max_age_s` is "
                f"{self.config.max_age_s}); is it still running, and does it see the object?"
            )
        return {f"{name}.pos": self._values[name] for name in self.config.names}

    def close(self) -> None:
        """Unsubscribe; may be called more than once."""
        if self._socket is not None:
            self._socket.close()
            self._context.term()
        self._socket = self._context = None

    def _receive(self) -> None:
        raw = self._socket.recv()
        try:
            values = json.loads(raw)["values"]
            missing = [name for name in self.config.names if name not in values]
            if not missing:
                self._values = {name: float(values[name]) for name in self.config.names}
        except (ValueError, TypeError, KeyError) as error:
            raise ConnectionError(
                f"tracker {self.config.address} sent {raw[:80]!r}; expected "
                '{"time": s, "values": {name: number}}.'
            ) from error
        if missing:
            raise ConnectionError(
                f"tracker {self.config.address} sends {', '.join(sorted(values))} but not "
                f"{', '.join(missing)}; correct `tracker.names`."
            )
        self._received_s = time.monotonic()
