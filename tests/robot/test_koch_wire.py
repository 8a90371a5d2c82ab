# SPDX-License-Identifier: Apache-2.0
"""The driver's reply parser against any stream; the packets come from the bench's own encoder."""

from itertools import pairwise

import dynamixel_sdk as dxl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from lerobot_env_koch.bench import protocol
from lerobot_robot_koch.wire import (
    HEADER,
    Instruction,
    Reply,
    ReplyParser,
    crc16,
    encode,
    read_request,
    reply_bytes,
    sync_write_request,
    write_request,
)

N_DATA = 6
ids = st.integers(0, 0xFC)
errors = st.sampled_from([0, 0x80, 0x03, 0x04])
# Headers inside the data are what byte stuffing is for.
data = st.one_of(
    st.binary(min_size=N_DATA, max_size=N_DATA),
    st.sampled_from([b"\xff\xff\xfd\x00\x01\x02", b"\xff\xff\xff\xfd\xfd\x00", b"\x00\xff\xff\xfd\xff\xff"]),
)
replies = st.builds(Reply, ids, errors, data)
noise = st.one_of(
    st.binary(max_size=12), st.sampled_from([HEADER, HEADER[:3], HEADER + b"\x01", b"\xff" * 3])
)


def raw(reply: Reply) -> bytes:
    return protocol.encode_status(reply.id, reply.error, reply.data)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(borders)]


def parse(chunks: list[bytes], n_parts: int = 0) -> list[Reply]:
    parser = ReplyParser(N_DATA, n_parts)
    found = [reply for chunk in chunks for reply in parser.feed(chunk)]
    return found + parser.flush()


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8), st.sampled_from([0, 1, 6]))
def test_any_bytes_cut_anywhere_never_raise_and_mean_the_same(stream, places, n_parts):
    assert parse(cut(stream, places), n_parts) == parse([stream], n_parts)


@given(st.lists(st.tuples(noise, replies), max_size=6), noise, st.lists(st.integers(0, 400), max_size=8))
def test_every_whole_reply_is_found_between_noise(items, tail, places):
    stream = b"".join(before + raw(reply) for before, reply in items) + tail
    assert parse(cut(stream, places)) == [reply for _, reply in items]


@given(
    st.lists(replies, min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=3),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_flipped_bits_never_make_a_value_up(sent, flips, places):
    stream = bytearray(b"".join(map(raw, sent)))
    for place, bit in flips:
        stream[place % len(stream)] ^= 1 << bit
    for reply in parse(cut(bytes(stream), places)):
        assert reply in sent


@given(st.lists(replies, min_size=2, max_size=6), st.data())
def test_a_damaged_reply_costs_no_other_one(sent, draw):
    which = draw.draw(st.integers(0, len(sent) - 1))
    packets = [bytearray(raw(reply)) for reply in sent]
    place = draw.draw(st.integers(0, len(packets[which]) - 1))
    packets[which][place] ^= 1 << draw.draw(st.integers(0, 7))
    rest = sent[:which] + sent[which + 1 :]
    assert parse([bytes(b"".join(packets))]) == rest


@given(st.lists(replies, min_size=1, max_size=5), st.integers(0, 400))
def test_a_truncated_stream_gives_the_replies_that_are_whole(sent, length):
    stream = b"".join(map(raw, sent))[:length]
    whole, end = [], 0
    for reply in sent:
        end += len(raw(reply))
        if end <= length:
            whole.append(reply)
    assert parse([stream]) == whole


# --- Fast Sync Read


def raw_fast(parts: list[Reply]) -> bytes:
    return protocol.encode_fast_status([(part.id, part.error, part.data) for part in parts])


@given(
    st.lists(replies, min_size=1, max_size=6), st.integers(0, 200), st.lists(st.integers(0, 99), max_size=6)
)
def test_the_parts_before_a_cut_are_taken(parts, length, places):
    stream = raw_fast(parts)[:length]
    part_length = 2 + N_DATA + 2
    n_whole = max(0, min(len(parts), (length - 8) // part_length))
    assert parse(cut(stream, places), len(parts)) == parts[:n_whole]


@given(st.lists(replies, min_size=1, max_size=6), st.data())
def test_the_parts_before_a_damaged_one_are_taken(parts, draw):
    stream = bytearray(raw_fast(parts))
    place = draw.draw(st.integers(8, len(stream) - 1))
    stream[place] ^= 1 << draw.draw(st.integers(0, 7))
    assert parse([bytes(stream)], len(parts)) == parts[: (place - 8) // (2 + N_DATA + 2)]


@given(st.lists(replies, min_size=2, max_size=6), st.integers(8, 60), replies)
def test_ordinary_replies_are_found_behind_a_broken_fast_one(parts, length, after):
    stream = raw_fast(parts)
    broken = stream[: min(length, len(stream) - 1)]
    assume(stream[len(broken)] != HEADER[0])  # else the next packet's first byte completes a part
    assert parse([broken, raw(after)], len(parts))[-1] == after


# --- requests


@given(ids, st.sampled_from(list(Instruction)), st.binary(max_size=30))
def test_requests_are_what_the_bench_and_the_sdk_understand(id_, instruction, params):
    packet = encode(id_, instruction, params)
    (understood,) = protocol.PacketParser().feed(packet)
    assert (understood.id, understood.instruction, understood.params) == (id_, instruction, params)
    assert packet == protocol.encode(id_, instruction, params)
    sdk = dxl.PacketHandler(2.0)
    assert crc16(packet[:-2]) == sdk.updateCRC(0, packet, len(packet) - 2)


def test_requests_carry_addresses_little_endian():
    (packet,) = protocol.PacketParser().feed(read_request([1, 4], 132, 4))
    assert (packet.id, packet.instruction) == (0xFE, 0x82)
    assert packet.params == b"\x84\x00\x04\x00\x01\x04"
    (packet,) = protocol.PacketParser().feed(read_request([3], 132, 4))
    assert (packet.id, packet.instruction, packet.params) == (3, 0x02, b"\x84\x00\x04\x00")
    (packet,) = protocol.PacketParser().feed(read_request([3], 132, 4, fast=True))
    assert (packet.id, packet.instruction) == (0xFE, 0x8A)
    (packet,) = protocol.PacketParser().feed(write_request(5, 64, b"\x01"))
    assert (packet.id, packet.instruction, packet.params) == (5, 0x03, b"\x40\x00\x01")
    (packet,) = protocol.PacketParser().feed(sync_write_request(116, {1: b"abcd", 2: b"efgh"}))
    assert (packet.instruction, packet.params) == (0x83, b"\x74\x00\x04\x00\x01abcd\x02efgh")


@pytest.mark.parametrize("n", [0, 3, 4, 7])
def test_reply_length(n):
    assert reply_bytes(n) == len(protocol.encode_status(1, 0, bytes(n)))


def test_an_echo_of_the_request_is_passed_over():
    """Adapters without a direction pin hear what they send."""
    reply = Reply(1, 0, b"abcdef")
    assert parse([read_request([1], 132, N_DATA) + raw(reply)]) == [reply]
