# SPDX-License-Identifier: Apache-2.0
"""Bytes on the wire: what is taken, and that everything else ends in `PayloadError` and nothing worse."""

import json
import os
import pickle
import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_ext.serving.codec import MAX_HEADER, TensorSpec, encode, read_tensors, split
from lerobot_ext.serving.messages import (
    Chunk,
    Feature,
    Join,
    Observation,
    Welcome,
    Wish,
    read_answer,
    read_instruction,
)
from lerobot_ext.serving.strict_json import PayloadError, parse_object

STATE = Feature("F32", (3,), ("a.pos", "b.pos", "c.pos"))
PICTURE = Feature("U8", (8, 6, 3))
DEPTH = Feature("U16", (4, 5, 1))


def welcome(*, jpeg=False, frames=1) -> Welcome:
    wanted = {"observation.state": STATE, "observation.images.top": PICTURE, "observation.images.deep": DEPTH}
    return Welcome("p", "act", wanted, jpeg, frames, 10, ("a.pos", "b.pos"), 10.0)


def observation(frames=1) -> Observation:
    rng = np.random.default_rng(0)
    one = {
        "observation.state": np.array([1, 2, 3], np.float32),
        "observation.images.top": rng.integers(0, 255, (8, 6, 3)).astype(np.uint8),
        "observation.images.deep": rng.integers(0, 65535, (4, 5, 1)).astype(np.uint16),
    }
    return Observation(7, 1.5, "lift the cube", [one] * frames)


def safetensors_file(header: object, body: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    plain = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(plain)) + plain + body


def message(header: object, body: bytes = b"") -> bytes:
    plain = header if isinstance(header, bytes) else json.dumps(header).encode()
    return b"LRX1" + struct.pack("<I", len(plain)) + plain + body


def test_an_observation_comes_back_as_it_went():
    sent = observation(frames=2)
    got = Observation.decode(sent.encode(welcome(frames=2)), welcome(frames=2))
    assert (got.timestep, got.timestamp, got.task, len(got.frames)) == (7, 1.5, "lift the cube", 2)
    for frame, expected in zip(got.frames, sent.frames, strict=True):
        for name, value in expected.items():
            assert frame[name].dtype == value.dtype
            np.testing.assert_array_equal(frame[name], value)


def test_a_jpeg_is_smaller_and_nearly_the_same():
    smooth = np.linspace(0, 255, 96 * 128 * 3).reshape(96, 128, 3).astype(np.uint8)
    wanted = {"observation.images.top": Feature("U8", smooth.shape)}
    raw, small = (Welcome("p", "act", wanted, jpeg, 1, 10, (), 10.0) for jpeg in (False, True))
    sent = Observation(0, 0.0, "", [{"observation.images.top": smooth}])
    assert len(sent.encode(small)) < len(sent.encode(raw)) / 4
    got = Observation.decode(sent.encode(small), small).frames[0]["observation.images.top"]
    assert np.abs(got.astype(int) - smooth).mean() < 3


def test_a_chunk_and_a_welcome_come_back_as_they_went():
    actions = np.arange(8, dtype=np.float32).reshape(4, 2)
    got = read_answer(Chunk(3, 2.5, actions, 1.25).encode(), welcome())
    assert isinstance(got, Chunk)
    assert (got.timestep, got.timestamp, got.compute_ms) == (3, 2.5, 1.25)
    np.testing.assert_array_equal(got.actions, actions)
    assert read_answer(welcome().encode(), None) == welcome()


@pytest.mark.parametrize(
    "change",
    [
        {"wanted": {"observation.images.top": Feature("U8", (9, 6, 3))}},
        {"wanted": {"observation.images.top": Feature("U16", (8, 6, 3))}},
        {"wanted": {"observation.images.spare": PICTURE}},
        {"wanted": {"observation.state": Feature("F32", (3,), ("a.pos", "b.pos", "secret"))}},
        {"action_names": ("a.pos",)},
        {"jpeg": True},
    ],
)
def test_a_client_sends_nothing_it_did_not_offer(change):
    join = Join("p", "koch", dict(welcome().wanted), ("a.pos", "b.pos"))
    welcome().check_for(join)
    with pytest.raises(PayloadError, match="welcome"):
        replace(welcome(), **change).check_for(join)


def test_a_server_may_ask_for_another_size_only_where_the_client_scales():
    join = Join("p", "koch", dict(welcome().wanted), ("a.pos", "b.pos"), resize=True)
    replace(welcome(), wanted={"observation.images.top": Feature("U8", (99, 6, 3))}).check_for(join)
    with pytest.raises(PayloadError, match="not offered"):  # 3 GB
        replace(welcome(), wanted={"observation.images.top": Feature("U8", (2**15, 2**15, 3))}).check_for(
            join
        )


def test_instructions_come_back_as_they_went():
    join = Join("p", "koch", {"observation.state": STATE}, ("a.pos",), {"x": "y"}, True, True, 5)
    assert read_instruction(join.encode()) == join
    assert read_instruction(Wish("reset").encode()) == Wish("reset")


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_hostile_pickle_is_refused_without_being_run(tmp_path, protocol):
    marker = tmp_path / "owned"
    bomb = pickle.dumps(Bomb(marker), protocol)
    for attack in (bomb, b"LRX1" + bomb, message({"kind": "observation"}, bomb), message(bomb)):
        for read in (read_instruction, lambda data: Observation.decode(data, welcome())):
            with pytest.raises(PayloadError):
                read(attack)
    with pytest.raises(PayloadError, match="pickle"):
        read_instruction(bomb)
    assert not marker.exists()
    pickle.loads(bomb)
    assert marker.exists()  # so the bomb was live


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": {"b": 1, "b": 2}}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "overflow"),
        (b"[1]", "must be an object"),
        (b'{"a":' + b"[" * 50_000, "deeper"),
        (b'{"a":' + b"[" * 9 + b"]" * 9 + b"}", "deeper"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_json_that_is_not_strict_is_refused(text, why):
    with pytest.raises(PayloadError, match=why):
        parse_object(text, "the header")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"kind": "observation", "timestep": True, "timestamp": 0, "task": ""}, "whole number"),
        ({"kind": "observation", "timestep": -1, "timestamp": 0, "task": ""}, "whole number"),
        ({"kind": "observation", "timestep": 10**30, "timestamp": 0, "task": ""}, "whole number"),
        ({"kind": "observation", "timestep": 0, "timestamp": "0", "task": ""}, "number"),
        ({"kind": "observation", "timestep": 0, "timestamp": 0, "task": "x" * 5000}, "4096 characters"),
        ({"kind": "observation", "timestep": 0, "timestamp": 0, "task": "", "more": 1}, "unknown fields"),
        ({"kind": "observation", "timestamp": 0, "task": ""}, "lacks `timestep`"),
        ({"kind": "chunk"}, "not an observation"),
        ({}, "lacks `kind`"),
    ],
)
def test_an_observation_with_wrong_fields_is_refused(header, why):
    with pytest.raises(PayloadError, match=why):
        Observation.decode(message(header), welcome())


EXPECTED = {"x": TensorSpec("F32", (2,)), "y": TensorSpec("U8", (3,))}
RIGHT = {
    "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "y": {"dtype": "U8", "shape": [3], "data_offsets": [8, 11]},
}


def changed(name: str, **fields: object) -> dict:
    return {**RIGHT, name: {**RIGHT[name], **fields}}


@pytest.mark.parametrize(
    ("header", "body", "why"),
    [
        ({"x": RIGHT["x"]}, 8, "missing \\['y'\\]"),
        ({**RIGHT, "z": RIGHT["y"]}, 11, "not asked for \\['z'\\]"),
        ({**RIGHT, "__metadata__": {"a": "b"}}, 11, "not asked for"),
        (changed("x", dtype="F64"), 11, "must be F32"),
        (changed("x", dtype="F99"), 11, "must be F32"),
        (changed("x", shape=[1 << 40]), 11, "whole numbers"),
        (changed("x", shape=[1 << 30]), 11, "must be F32 \\[2\\]"),
        (changed("x", shape=[-2]), 11, "whole numbers"),
        (changed("x", shape=[2, 1]), 11, "must be F32 \\[2\\]"),
        (changed("x", data_offsets=[0, 1 << 40]), 11, "takes"),
        (changed("x", data_offsets=[3, 11]), 11, "overlap"),
        (changed("y", data_offsets=[9, 12]), 12, "gaps"),
        (changed("y", data_offsets=[-3, 0]), 11, "whole numbers"),
        (changed("x", more=1), 11, "unknown fields"),
        ({**RIGHT, "x": []}, 11, "not as an object"),
        (RIGHT, 10, "but 10 follow"),
        (RIGHT, 12, "but 12 follow"),
        (b'{"x": {}, "x": {}}', 0, "twice"),
        (b"{", 0, "not JSON"),
    ],
)
def test_tensors_that_are_not_exactly_the_expected_ones_are_refused(header, body, why):
    data = safetensors_file(header, b"\0" * body)
    with pytest.raises(PayloadError, match=why):
        read_tensors(memoryview(data), EXPECTED)


def test_the_right_tensors_are_taken():
    data = safetensors_file(RIGHT, b"\0" * 8 + b"abc")
    assert read_tensors(memoryview(data), EXPECTED)["y"].tolist() == [97, 98, 99]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    data = encode({}, {"x": np.array([1, value], np.float32)})
    with pytest.raises(PayloadError, match="NaN or infinity"):
        read_tensors(split(data)[1], {"x": TensorSpec("F32", (2,))})


def test_a_header_that_claims_too_much_is_refused_before_memory_is_set_aside():
    claims = [
        b"LRX1" + struct.pack("<I", 0xFFFFFFFF),
        b"LRX1" + struct.pack("<I", MAX_HEADER + 1) + b" " * (MAX_HEADER + 1),
        message({"kind": "observation", "timestep": 0, "timestamp": 0, "task": ""}, struct.pack("<Q", 2**63)),
        message({"kind": "observation", "timestep": 0, "timestamp": 0, "task": ""}, struct.pack("<Q", 2**20)),
    ]
    tracemalloc.start()
    for claim in claims:
        with pytest.raises(PayloadError, match="claims"):
            Observation.decode(claim, welcome())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_message_longer_than_its_features_allow_is_refused():
    sent = observation().encode(welcome())
    with pytest.raises(PayloadError, match="at most"):
        Observation.decode(sent + b"\0" * 1_000_000, welcome())


def test_what_does_not_travel_is_refused_by_the_sender():
    with pytest.raises(ValueError, match="float64"):
        encode({}, {"x": np.zeros(2)})
    with pytest.raises(ValueError, match="at most"):
        encode({"x": "y" * MAX_HEADER})
    with pytest.raises(ValueError, match="JSON"):
        encode({"x": float("nan")})


VALID = [
    (observation().encode(welcome()), lambda data: Observation.decode(data, welcome())),
    (observation().encode(welcome(jpeg=True)), lambda data: Observation.decode(data, welcome(jpeg=True))),
    (Chunk(3, 2.5, np.ones((4, 2), np.float32), 1.0).encode(), lambda data: read_answer(data, welcome())),
    (welcome().encode(), lambda data: read_answer(data, welcome())),
    (Join("p", "koch", {"observation.state": STATE}, ("a.pos",)).encode(), read_instruction),
]


def only_payload_errors(read, data: bytes) -> None:
    """Read; memory stays within reach of what arrived."""
    tracemalloc.start()
    try:
        read(data)
    except PayloadError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4_000_000


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(VALID), st.binary(max_size=400))
def test_random_bytes_only_raise_payload_errors(valid, data):
    _, read = valid
    for attack in (data, b"LRX1" + data, message(b"{}", data)):
        only_payload_errors(read, attack)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(VALID), st.data())
def test_truncated_messages_are_refused(valid, data):
    whole, read = valid
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(PayloadError):
        read(whole[:cut])


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(VALID), st.data())
def test_flipped_bits_only_raise_payload_errors(valid, data):
    whole, read = valid
    damaged = bytearray(whole)
    # Most of a message is pictures, where a flipped bit is another picture: aim at the headers too.
    places = st.one_of(st.integers(0, len(whole) - 1), st.integers(0, min(len(whole), 600) - 1))
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    only_payload_errors(read, bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
        ),
        max_size=6,
    ),
    st.sampled_from(["join", "reset", "observation", "chunk", "welcome"]),
)
def test_json_of_any_shape_only_raises_payload_errors(fields, kind):
    data = message({**fields, "kind": kind})
    for _, read in VALID:
        only_payload_errors(read, data)
