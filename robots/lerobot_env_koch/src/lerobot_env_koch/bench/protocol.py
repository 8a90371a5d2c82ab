# SPDX-License-Identifier: Apache-2.0
"""Dynamixel Protocol 2.0 packets: encoding, byte stuffing, CRC16, and an incremental parser that resyncs.

Written from the public protocol description (https://emanual.robotis.com/docs/en/dxl/protocol2/). A packet is

    FF FF FD 00 | id | length (2, little endian) | instruction | parameters … | CRC16 (2, little endian)

where `length` counts everything after itself, and `FF FF FD` inside instruction and parameters is sent as
`FF FF FD FD`. In a status packet the instruction is 0x55 and the first parameter is the error byte.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

HEADER: Final = b"\xff\xff\xfd\x00"
STUFFED: Final = b"\xff\xff\xfd"
BROADCAST_ID: Final = 0xFE
MAX_ID: Final = 0xFC
MAX_LENGTH: Final = 1024
"""Longest `length` field taken for real; anything longer is noise that happened to look like a header."""

_FRAME: Final = 7  # header, id and length: the bytes before the instruction
_CRC: Final = 2


class Instruction(IntEnum):
    """Instructions the bench carries out; it answers others with `ErrorCode.INSTRUCTION`."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    REBOOT = 0x08
    CLEAR = 0x10
    STATUS = 0x55
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A


class ErrorCode(IntFlag):
    """Error byte of a status packet; `ALERT` is added while the hardware error status is not zero."""

    NONE = 0x00
    RESULT_FAIL = 0x01
    INSTRUCTION = 0x02
    CRC = 0x03
    DATA_RANGE = 0x04
    DATA_LENGTH = 0x05
    DATA_LIMIT = 0x06
    ACCESS = 0x07
    ALERT = 0x80


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x8005) if crc & 0x8000 else crc << 1
        table.append(crc & 0xFFFF)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc16(data: Iterable[int], crc: int = 0) -> int:
    """CRC-16/UMTS (polynomial 0x8005, start 0), as Protocol 2.0 uses it; `crc` continues an earlier sum."""
    for byte in data:
        crc = ((crc << 8) & 0xFF00) ^ _CRC_TABLE[(crc >> 8) ^ byte]
    return crc


def stuff(body: bytes) -> bytes:
    """Instruction and parameters with `FD` added after each `FF FF FD`."""
    return body.replace(STUFFED, STUFFED + b"\xfd") if STUFFED in body else body


def unstuff(body: bytes) -> bytes:
    """The inverse of `stuff`."""
    return body.replace(STUFFED + b"\xfd", STUFFED) if STUFFED in body else body


@dataclass(frozen=True, slots=True)
class Packet:
    """One whole, checked packet.

    Args:
        id (`int`): Servo id or `BROADCAST_ID`.
        instruction (`int`): See `Instruction`; 0x55 for a status packet.
        params (`bytes`): Parameters without stuffing. In a status packet the error byte comes first.
    """

    id: int
    instruction: int
    params: bytes


def encode(id_: int, instruction: int, params: bytes = b"") -> bytes:
    """The bytes of one packet on the wire.

    Args:
        id_ (`int`): 0..252, or 254 for broadcast.
        instruction (`int`): See `Instruction`.
        params (`bytes`): Parameters before stuffing.

    Raises:
        ValueError: The id is no valid one, or the packet would be longer than `MAX_LENGTH`.
    """
    if not (0 <= id_ <= MAX_ID or id_ == BROADCAST_ID):
        raise ValueError(f"`id_` ({id_}) must be 0..{MAX_ID}, or {BROADCAST_ID} for broadcast.")
    body = stuff(bytes([instruction]) + params)
    length = len(body) + _CRC
    if length > MAX_LENGTH:
        raise ValueError(f"a packet of `length` {length} exceeds {MAX_LENGTH}; send fewer parameters.")
    raw = HEADER + bytes([id_, length & 0xFF, length >> 8]) + body
    return raw + crc16(raw).to_bytes(2, "little")


def encode_status(id_: int, error: int, params: bytes = b"") -> bytes:
    """The bytes of one status packet."""
    return encode(id_, Instruction.STATUS, bytes([error]) + params)


def encode_fast_parts(replies: Sequence[tuple[int, int, bytes]], n_asked: int | None = None) -> list[bytes]:
    """The parts of the one status packet that answers a FAST SYNC READ, each sent by another servo.

    Args:
        replies (`Sequence[tuple[int, int, bytes]]`): `(id, error, data)` of each servo, in the order asked,
            all with equally long data. Each part ends with the CRC of the packet up to it, so the last one's
            is the packet's own. Fast packets carry no stuffing.
        n_asked (`int`, *optional*): How many servos were asked, which the packet's length field announces;
            `replies` may hold fewer.
    """
    if not replies:
        return []
    length = 1 + (n_asked or len(replies)) * (2 + len(replies[0][2]) + _CRC)
    part = HEADER + bytes([BROADCAST_ID, length & 0xFF, length >> 8, Instruction.STATUS])
    parts, crc = [], 0
    for id_, error, data in replies:
        part += bytes([error, id_]) + data
        part += crc16(part, crc).to_bytes(_CRC, "little")
        # The packet's sum runs on over the CRCs in between.
        crc = crc16(part, crc)
        parts.append(part)
        part = b""
    return parts


def encode_fast_status(replies: Sequence[tuple[int, int, bytes]]) -> bytes:
    """The whole status packet that answers a FAST SYNC READ; see `encode_fast_parts`."""
    return b"".join(encode_fast_parts(replies))


class PacketParser:
    """Turns a stream of bytes, cut anywhere and with noise in between, into whole packets.

    A packet whose CRC is wrong is given up by three bytes only, so that a packet which starts inside the
    damaged one is still found.

    Attributes:
        n_crc_errors (`int`): Packets given up because of their CRC or an impossible length.
        n_noise_bytes (`int`): Bytes skipped because they belonged to no packet.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.n_crc_errors = 0
        self.n_noise_bytes = 0

    @property
    def pending(self) -> int:
        """Bytes held back because their packet is not complete yet."""
        return len(self._buffer)

    def clear(self) -> None:
        """Forget an incomplete packet, as when the port was closed."""
        self._buffer.clear()

    def feed(self, data: bytes) -> list[Packet]:
        """Take what came in and return the packets that are whole now, in order."""
        self._buffer += data
        packets = []
        while (packet := self._next()) is not None:
            packets.append(packet)
        return packets

    def _next(self) -> Packet | None:
        while True:
            self._skip_to_header()
            if len(self._buffer) < _FRAME:
                return None
            length = self._buffer[5] | self._buffer[6] << 8
            if not 1 + _CRC <= length <= MAX_LENGTH:
                self._give_up()
                continue
            end = _FRAME + length
            if len(self._buffer) < end:
                return None
            raw = bytes(self._buffer[:end])
            if crc16(raw[:-_CRC]) != int.from_bytes(raw[-_CRC:], "little"):
                self._give_up()
                continue
            del self._buffer[:end]
            body = unstuff(raw[_FRAME:-_CRC])
            return Packet(raw[4], body[0], body[1:])

    def _skip_to_header(self) -> None:
        start = self._buffer.find(HEADER)
        if start < 0:
            # The last bytes may be the beginning of a header that is still on its way.
            keep = next((n for n in (3, 2, 1) if self._buffer[-n:] == HEADER[:n]), 0)
            start = len(self._buffer) - keep
        self.n_noise_bytes += start
        del self._buffer[:start]

    def _give_up(self) -> None:
        self.n_crc_errors += 1
        self.n_noise_bytes += 3
        del self._buffer[:3]
