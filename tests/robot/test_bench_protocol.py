# SPDX-License-Identifier: Apache-2.0
import dynamixel_sdk as dxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lerobot_env_koch.bench.protocol import (
    BROADCAST_ID,
    HEADER,
    Packet,
    PacketParser,
    crc16,
    encode,
    encode_fast_status,
    encode_status,
    stuff,
    unstuff,
)

# Bytes that often form headers and stuffing, so that the awkward cases are really met.
AWKWARD = st.lists(st.sampled_from([0xFF, 0xFD, 0x00, 0x55, 0x07]), max_size=40).map(bytes)
BODIES = st.one_of(AWKWARD, st.binary(max_size=60))
PACKETS = st.builds(Packet, st.sampled_from([0, 1, 6, 252, BROADCAST_ID]), st.integers(0, 255), BODIES)


def raw(packet: Packet) -> bytes:
    return encode(packet.id, packet.instruction, packet.params)


def test_crc_of_the_manuals_example():
    # "Ping id 1" as the protocol description prints it.
    assert encode(1, 1) == bytes.fromhex("FFFFFD00010300 01 194E")


@given(st.binary(max_size=80))
def test_crc_equals_the_sdks(data):
    assert crc16(data) == dxl.PacketHandler(2.0).updateCRC(0, list(data), len(data))


@given(BODIES)
def test_unstuff_reverts_stuff(body):
    assert unstuff(stuff(body)) == body


@given(BODIES)
def test_a_stuffed_body_holds_no_header(body):
    assert HEADER not in stuff(bytes([0x55]) + body)


@given(st.lists(PACKETS, max_size=5), st.integers(1, 9))
def test_parser_returns_what_was_encoded_however_it_is_cut(packets, cut):
    stream = b"".join(map(raw, packets))
    parser = PacketParser()
    found = [p for i in range(0, len(stream), cut) for p in parser.feed(stream[i : i + cut])]
    assert found == packets
    assert parser.pending == 0
    assert parser.n_crc_errors == 0


@given(PACKETS, st.integers(0, 7), st.data())
def test_parser_finds_the_packet_behind_a_damaged_one(packet, bit, data):
    damaged = bytearray(raw(packet))
    index = data.draw(st.integers(7, len(damaged) - 1))
    damaged[index] ^= 1 << bit
    good = Packet(3, 0x55, b"\x00\x01\x02")
    parser = PacketParser()
    found = parser.feed(bytes(damaged) + raw(good))
    assert found[-1] == good
    assert packet not in found[:-1]


@given(st.binary(max_size=30).filter(lambda noise: b"\xff" not in noise), PACKETS)
def test_parser_skips_noise(noise, packet):
    parser = PacketParser()
    assert parser.feed(noise + raw(packet)) == [packet]
    assert parser.n_noise_bytes == len(noise)


def test_parser_does_not_wait_for_an_impossible_length():
    parser = PacketParser()
    assert parser.feed(HEADER + b"\x01\xff\xff" + encode(2, 1)) == [Packet(2, 1, b"")]


def test_fast_status_ends_in_the_crc_of_the_whole_packet():
    packet = encode_fast_status([(1, 0, b"\x01\x02\x03\x04"), (2, 0x80, b"\x05\x06\x07\x08")])
    assert len(packet) == 8 + 2 * 8
    assert crc16(packet[:-2]) == int.from_bytes(packet[-2:], "little")
    assert int.from_bytes(packet[5:7], "little") == len(packet) - 7


def test_status_carries_the_error_first():
    assert PacketParser().feed(encode_status(4, 7, b"\x2a")) == [Packet(4, 0x55, b"\x07\x2a")]


@pytest.mark.parametrize("id_", [-1, 253, 255])
def test_encode_refuses_an_impossible_id(id_):
    with pytest.raises(ValueError, match=r"`id_`"):
        encode(id_, 1)
