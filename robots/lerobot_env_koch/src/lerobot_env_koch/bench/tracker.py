# SPDX-License-Identifier: Apache-2.0
"""Publishes where the cube and the goal are, as an object tracker over a real table would.

Each message is JSON, `{"time": s, "values": {"cube_x": m, …}}`, on a ZeroMQ PUB socket: the format that the
`tracker` field of `lerobot_robot_koch`'s follower reads.
"""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import zmq as zmq_module
from numpy.typing import NDArray

# Without its stubs (it is an optional dependency of LeRobot) mypy sees an empty module.
zmq: Any = zmq_module

RATE_HZ: Final = 60.0


class TrackerPublisher:
    """A PUB socket for tracker values; `publish` never blocks.

    Args:
        bind (`str`): Address to bind, without port.
        port (`int`): TCP port; 0 lets the system choose.

    Attributes:
        port (`int`): The port in use.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, bind: str, port: int) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 4)
        try:
            if port:
                self._socket.bind(f"tcp://{bind}:{port}")
            else:
                port = self._socket.bind_to_random_port(f"tcp://{bind}")
        except zmq.ZMQError as error:
            self.close()
            raise OSError(
                f"the tracker cannot use port {port}: {error}. Choose another with `--base-port`."
            ) from error
        self.port = port

    def publish(self, names: Sequence[str], values: NDArray[np.float64]) -> None:
        """Send one message; dropped when a subscriber is too slow."""
        message = {"time": time.time(), "values": dict(zip(names, map(float, values), strict=True))}
        try:
            self._socket.send(json.dumps(message).encode(), zmq.NOBLOCK)
        except zmq.Again:
            return

    def close(self) -> None:
        """Free the port."""
        self._socket.close()
        self._context.term()
