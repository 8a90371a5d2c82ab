# SPDX-License-Identifier: Apache-2.0
"""Dynamixel Protocol 2.0 as the host sees it: requests out, replies in, from any stream of bytes.

Packet layout from https://emanual.robotis.com/docs/en/dxl/protocol2/; the checksum is dynamixel-sdk's. A
reply is

    FF FF FD 00 | id | length (2) | 55 | error | data … | CRC16 (2)

with `FF FF FD` inside error and data sent as `FF FF FD FD`. The reply to a Fast Sync Read is one packet from
id FE that all servos write together, each its part; a part ends with the CRC of the packet up to there, so
that the parts before a fault can be trusted:

    FF FF FD 00 | FE | length (2) | 55 | error id data … CRC16 | error id data … CRC16 | …
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

from dynamixel_sdk.protocol2_packet_handler import Protocol2PacketHandler

HEADER: Final = b"\xff\xff\xfd\x00"
BROADCAST_ID: Final = 0xFE
MAX_ID: Final = 0xFC

_STATUS: Final = 0x55
_FRAME: Final = 7  # header, id and length: the bytes before the instruction
_CRC: Final = 2
_STUFFED: Final = b"\xff\xff\xfd"
_SDK: Final = Protocol2PacketHandler()


class Instruction(IntEnum):
    """Instructions this driver sends."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A


@dataclass(frozen=True, slots=True)
class Reply:
    """What one servo answered.

    Args:
        id (`int`): Its bus id.
        error (`int`): Error byte; bit 7 says that the servo's hardware error status is not zero.
        data (`bytes`): The data, without stuffing.
    """

    id: int
    error: int
    data: bytes


def crc16(data: bytes | bytearray, crc: int = 0) -> int:
    """Protocol 2.0's checksum of `data`; `crc` continues an earlier sum."""
    return int(_SDK.updateCRC(crc, data, len(data)))


@lru_cache(maxsize=512)
def encode(id_: int, instruction: int, params: bytes = b"") -> bytes:
    """One instruction packet.

    Args:
        id_ (`int`): 0..252, or 254 for all servos.
        instruction (`int`): See `Instruction`.
        params (`bytes`): Parameters before stuffing.
    """
    body = (bytes([instruction]) + params).replace(_STUFFED, _STUFFED + b"\xfd")
    raw = HEADER + bytes([id_]) + (len(body) + _CRC).to_bytes(2, "little") + body
    return raw + crc16(raw).to_bytes(2, "little")


def read_request(ids: Sequence[int], address: int, length: int, *, fast: bool = False) -> bytes:
    """Asks each of `ids` for `length` bytes from `address`, in one packet."""
    where = address.to_bytes(2, "little") + length.to_bytes(2, "little")
    if len(ids) == 1 and not fast:
        return encode(ids[0], Instruction.READ, where)
    kind = Instruction.FAST_SYNC_READ if fast else Instruction.SYNC_READ
    return encode(BROADCAST_ID, kind, where + bytes(ids))


def write_request(id_: int, address: int, data: bytes) -> bytes:
    """Writes `data` from `address` on; servos do not acknowledge it when `id_` is `BROADCAST_ID`."""
    return encode(id_, Instruction.WRITE, address.to_bytes(2, "little") + data)


def sync_write_request(address: int, values: dict[int, bytes]) -> bytes:
    """Writes each servo's own bytes from `address` on; servos do not acknowledge it."""
    length = len(next(iter(values.values())))
    where = address.to_bytes(2, "little") + length.to_bytes(2, "little")
    return encode(
        BROADCAST_ID, Instruction.SYNC_WRITE, where + b"".join(bytes([i]) + d for i, d in values.items())
    )


def reply_bytes(n_data: int) -> int:
    """Length on the wire of a reply with `n_data` bytes of data, without stuffing."""
    return _FRAME + 2 + n_data + _CRC


class ReplyParser:
    """Turns the bytes of one exchange, cut anywhere and with noise in between, into replies.

    A packet whose CRC is wrong is given up by its header only, so that a packet which begins inside the
    damaged one is still found. A length that no reply to this request can have is damage too: believed, it
    would make the parser wait for bytes that belong to the next packets.

    Args:
        max_data (`int`): Longest data of a reply to the request.
        n_parts (`int`, *optional*, defaults to `0`): Servos asked by a Fast Sync Read, whose parts then carry
            `max_data` bytes each; 0 takes no such reply.

    Attributes:
        n_damaged (`int`): Packets, or parts of them, given up because of their CRC or length.
        n_noise_bytes (`int`): Bytes that belonged to no packet.
    """

    def __init__(self, max_data: int, n_parts: int = 0) -> None:
        self.n_damaged = 0
        self.n_noise_bytes = 0
        self._max_length = 2 + max_data + max_data // 3 + 1 + _CRC
        self._part = 2 + max_data + _CRC
        self._fast_length = 1 + n_parts * self._part if n_parts else 0
        self._n_parts_taken = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Reply]:
        """Take what came in; the replies that are whole now, in order."""
        self._buffer += data
        replies: list[Reply] = []
        while self._step(replies):
            pass
        return replies

    def flush(self) -> list[Reply]:
        """Nothing more will come: the replies that a damaged packet's wrong length hid."""
        replies: list[Reply] = []
        while len(self._buffer) >= len(HEADER):
            if not self._step(replies):
                self._give_up()
        return replies

    def _step(self, replies: list[Reply]) -> bool:
        """Deal with what the buffer begins with; `False` when it takes more bytes to know."""
        buffer = self._buffer
        self._skip_to_header()
        if len(buffer) < _FRAME:
            return False
        length = int.from_bytes(buffer[5:7], "little")
        if self._fast_length and buffer[4] == BROADCAST_ID and length == self._fast_length:
            return self._take_parts(replies)
        if buffer[4] > MAX_ID or not 2 + _CRC <= length <= self._max_length:
            self._give_up()
            return True
        end = _FRAME + length
        if len(buffer) < end:
            return False
        if crc16(buffer[: end - _CRC]) != int.from_bytes(buffer[end - _CRC : end], "little"):
            self._give_up()
            return True
        body = bytes(buffer[_FRAME : end - _CRC]).replace(_STUFFED + b"\xfd", _STUFFED)
        if body[0] == _STATUS and len(body) >= 2:
            replies.append(Reply(buffer[4], body[1], body[2:]))
        # else: an adapter's echo of the request, or somebody else's packet
        del buffer[:end]
        return True

    def _take_parts(self, replies: list[Reply]) -> bool:
        """Take the parts of a Fast Sync Read's reply that have arrived; the packet stays until its end."""
        buffer, part = self._buffer, self._part
        total = _FRAME + self._fast_length
        if len(buffer) > _FRAME and buffer[_FRAME] != _STATUS:
            self._give_up()
            return True
        while True:
            start = _FRAME + 1 + self._n_parts_taken * part
            end = start + part
            if start >= total:
                del buffer[:total]
                self._n_parts_taken = 0
                return True
            if len(buffer) < end:
                return False
            if crc16(buffer[: end - _CRC]) != int.from_bytes(buffer[end - _CRC : end], "little"):
                # What follows cannot be told from noise: every later CRC covers this part.
                self._give_up()
                return True
            replies.append(Reply(buffer[start + 1], buffer[start], bytes(buffer[start + 2 : end - _CRC])))
            self._n_parts_taken += 1

    def _skip_to_header(self) -> None:
        start = self._buffer.find(HEADER)
        if start < 0:
            # The last bytes may be the beginning of a header that is still on its way.
            keep = next((n for n in (3, 2, 1) if self._buffer[-n:] == HEADER[:n]), 0)
            start = len(self._buffer) - keep
        self.n_noise_bytes += start
        del self._buffer[:start]

    def _give_up(self) -> None:
        self.n_damaged += 1
        self._n_parts_taken = 0
        del self._buffer[: len(HEADER)]
