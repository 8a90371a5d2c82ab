# SPDX-License-Identifier: Apache-2.0
"""LeRobot's transfer in chunks, received with a limit; and what both sides tell gRPC.

LeRobot's `send_bytes_in_chunks` sends. Its counterpart gathers whatever comes, without a limit, so this
module has its own.
"""

from collections.abc import Iterable
from typing import Any, Final

from lerobot.transport import services_pb2  # type: ignore[attr-defined]

from lerobot_ext.serving.strict_json import PayloadError

SESSION_KEY: Final = "x-lerobot-session"
MAX_GRPC_MESSAGE: Final = 4 * 1024 * 1024
"""LeRobot sends pieces of 2 MiB."""

_STATE: Final = services_pb2.TransferState


def receive_limited(pieces: Iterable[Any], max_bytes: int) -> bytes:
    """Put a message together.

    Args:
        pieces (`Iterable`): `Observation`s of LeRobot's service: one END, or BEGIN, MIDDLE …, END.
        max_bytes (`int`): Most bytes it may have; the first piece beyond ends the reading.

    Raises:
        PayloadError: It is too large, or the pieces come in another order.
    """
    gathered = bytearray()
    begun = False
    for piece in pieces:
        if len(gathered) + len(piece.data) > max_bytes:
            raise PayloadError(f"the message is longer than {max_bytes} bytes")
        gathered += piece.data
        if piece.transfer_state == _STATE.TRANSFER_END:
            return bytes(gathered)
        expected = _STATE.TRANSFER_MIDDLE if begun else _STATE.TRANSFER_BEGIN
        if piece.transfer_state != expected:
            raise PayloadError(f"piece {piece.transfer_state} of the message came out of order")
        begun = True
    raise PayloadError("the message ends without its last piece")


def common_options() -> list[tuple[str, int]]:
    """Limits, and signs of life on idle connections, for channel and server."""
    return [
        ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE),
        ("grpc.max_send_message_length", MAX_GRPC_MESSAGE),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def server_options() -> list[tuple[str, int]]:
    """For the server: the port is its alone, and no connection opens calls without end."""
    return [
        *common_options(),
        # With it, gRPC lets a second server take the same port and half of the calls, silently.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", 16),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]


def channel_options() -> list[tuple[str, int]]:
    """For the client: it reconnects by its own rules, quickly at first."""
    return [
        *common_options(),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Channels to one address share a connection by default; a new channel must be a new connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]
