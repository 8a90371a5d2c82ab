# SPDX-License-Identifier: Apache-2.0
"""What the instructions of Protocol 2.0 do to the servos of one bus, and what the servos answer."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lerobot_env_koch.bench.protocol import (
    BROADCAST_ID,
    ErrorCode,
    Instruction,
    Packet,
    encode_fast_parts,
    encode_status,
)
from lerobot_env_koch.bench.servo import Servo

_PRESENT_POSITION: Final = 132


@dataclass(frozen=True, slots=True)
class Reply:
    """What one servo sends.

    Args:
        id (`int`): The servo.
        raw (`bytes`): A status packet, or this servo's part of the answer to a FAST SYNC READ.
        delay_s (`float`, *optional*): Its `Return_Delay_Time`, in seconds.
        is_part (`bool`, *optional*): Whether it continues the packet of the servo before.
    """

    id: int
    raw: bytes
    delay_s: float = 0.0
    is_part: bool = False


@dataclass
class Answer:
    """All that the servos send on one instruction.

    Args:
        replies (`list[Reply]`, *optional*): In the order in which they are sent.
        sync_read (`bool`, *optional*): Whether several servos answer one after the other.
        fast (`bool`, *optional*): Whether they share one packet, so that each waits for the one before.
    """

    replies: list[Reply] = field(default_factory=list)
    sync_read: bool = False
    fast: bool = False


class Responder:
    """Carries out instructions.

    Attributes:
        last_position_read_s (`float`): Monotonic time of the last read that covered `Present_Position`.
    """

    def __init__(self) -> None:
        self.last_position_read_s = -1e9

    def answer(self, packet: Packet, servos: Sequence[Servo]) -> Answer:
        """Carry out `packet` on the servos that hear it."""
        by_id = {servo.id: servo for servo in servos}
        if packet.instruction == Instruction.SYNC_READ:
            return self._sync_read(packet, by_id)
        if packet.instruction == Instruction.FAST_SYNC_READ:
            return self._fast_sync_read(packet, by_id)
        if packet.instruction == Instruction.SYNC_WRITE:
            self._sync_write(packet, by_id)
            return Answer()
        if packet.id == BROADCAST_ID:
            addressed = sorted(servos, key=lambda servo: servo.id)
            if packet.instruction != Instruction.PING:
                for servo in addressed:
                    self._execute(servo, packet)
                return Answer()
        else:
            addressed = [by_id[packet.id]] if packet.id in by_id else []
        return Answer([reply for servo in addressed if (reply := self._single(servo, packet)) is not None])

    def _single(self, servo: Servo, packet: Packet) -> Reply | None:
        # Both as they were: the instruction may change them.
        id_, delay_s = servo.id, servo.return_delay_s
        error, params = self._execute(servo, packet)
        if servo.status_return_level < _level_needed(packet.instruction):
            return None
        return Reply(id_, encode_status(id_, error | servo.alert, params), delay_s)

    def _execute(self, servo: Servo, packet: Packet) -> tuple[ErrorCode, bytes]:
        params = packet.params
        if packet.instruction == Instruction.PING:
            return ErrorCode.NONE, servo.ping()
        if packet.instruction == Instruction.READ:
            if len(params) != 4:
                return ErrorCode.DATA_LENGTH, b""
            address, length = _span(params)
            self._note_read(address, length)
            return servo.read(address, length)
        if packet.instruction in (Instruction.WRITE, Instruction.REG_WRITE):
            if len(params) < 3:
                return ErrorCode.DATA_LENGTH, b""
            write = servo.write if packet.instruction == Instruction.WRITE else servo.register_write
            return write(int.from_bytes(params[:2], "little"), params[2:]), b""
        if packet.instruction == Instruction.ACTION:
            return servo.action(), b""
        if packet.instruction == Instruction.REBOOT:
            servo.reboot()
            return ErrorCode.NONE, b""
        if packet.instruction == Instruction.CLEAR:
            return servo.clear_multi_turn(), b""
        return ErrorCode.INSTRUCTION, b""

    # --- several servos at once

    def _sync_read(self, packet: Packet, by_id: Mapping[int, Servo]) -> Answer:
        if len(packet.params) < 5:
            return Answer()
        address, length = _span(packet.params)
        self._note_read(address, length)
        replies = []
        for id_ in packet.params[4:]:
            if (servo := by_id.get(id_)) is not None:
                error, data = servo.read(address, length)
                replies.append(
                    Reply(id_, encode_status(id_, error | servo.alert, data), servo.return_delay_s)
                )
        return Answer(replies, sync_read=True)

    def _fast_sync_read(self, packet: Packet, by_id: Mapping[int, Servo]) -> Answer:
        if len(packet.params) < 5:
            return Answer()
        address, length = _span(packet.params)
        self._note_read(address, length)
        ids = packet.params[4:]
        answers = []
        for id_ in ids:
            servo = by_id.get(id_)
            if servo is None:
                # The servos behind it wait for a part that never comes.
                break
            error, data = servo.read(address, length)
            # The packet's length is announced by the first servo and fixed: a refused read sends zeros.
            answers.append((servo, error | servo.alert, data.ljust(length, b"\0")))
        parts = encode_fast_parts([(s.id, e, d) for s, e, d in answers], n_asked=len(ids))
        delay_s = max((s.return_delay_s for s, _, _ in answers), default=0.0)
        replies = [
            Reply(servo.id, part, 0.0 if i else delay_s, is_part=i > 0)
            for i, ((servo, _, _), part) in enumerate(zip(answers, parts, strict=True))
        ]
        return Answer(replies, sync_read=True, fast=True)

    def _sync_write(self, packet: Packet, by_id: Mapping[int, Servo]) -> None:
        if len(packet.params) < 4:
            return
        address, length = _span(packet.params)
        rest = packet.params[4:]
        while len(rest) >= 1 + length:
            servo = by_id.get(rest[0])
            if servo is not None:
                servo.write(address, rest[1 : 1 + length])
            rest = rest[1 + length :]

    def _note_read(self, address: int, length: int) -> None:
        if address <= _PRESENT_POSITION < address + length:
            self.last_position_read_s = time.monotonic()


def _span(params: bytes) -> tuple[int, int]:
    """`(address, length)` at the beginning of the parameters."""
    return int.from_bytes(params[:2], "little"), int.from_bytes(params[2:4], "little")


def _level_needed(instruction: int) -> int:
    """Smallest status return level at which a servo answers `instruction`."""
    if instruction == Instruction.PING:
        return 0
    return 1 if instruction == Instruction.READ else 2
