# SPDX-License-Identifier: Apache-2.0
"""The flags that are remembered for this machine."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_ext.recording import store
from lerobot_ext.recording.load import Load

THREE = Load(3, 640, 480, 30)
FLAGS = ["--dataset.streaming_encoding=true", "--dataset.rgb_encoder.vcodec=h264"]


def test_what_is_remembered_is_recalled(tmp_path):
    path = tmp_path / "deep" / "flags.json"
    assert store.recall(THREE, path) == []
    assert store.remember(THREE, FLAGS, path) == path
    assert store.recall(THREE, path) == FLAGS


def test_flags_of_a_heavier_load_hold_a_lighter_one(tmp_path):
    path = tmp_path / "flags.json"
    store.remember(Load(3, 1280, 720, 30), ["--heavy"], path)
    store.remember(THREE, FLAGS, path)
    assert store.recall(Load(2, 640, 480, 30), path) == FLAGS
    assert store.recall(Load(3, 1280, 720, 15), path) == ["--heavy"]
    assert store.recall(Load(4, 640, 480, 30), path) == []
    assert store.recall(Load(3, 640, 480, 60), path) == []


def test_another_machine_knows_nothing(tmp_path, monkeypatch):
    path = tmp_path / "flags.json"
    store.remember(THREE, FLAGS, path)
    monkeypatch.setattr(store.platform, "node", lambda: "elsewhere")
    assert store.recall(THREE, path) == []
    store.remember(THREE, ["--other"], path)
    monkeypatch.undo()
    assert store.recall(THREE, path) == FLAGS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(json_values)
def test_a_damaged_file_is_as_good_as_none(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("store") / "flags.json"
    for content in (
        value,
        {"version": 1, "machines": value},
        {"version": 1, "machines": {store.machine(): value}},
    ):
        path.write_text(json.dumps(content))
        assert store.recall(THREE, path) == []


@pytest.mark.parametrize("text", ["", "{", "\x00\xff"])
def test_a_file_that_is_no_json_is_replaced(tmp_path, text):
    path = tmp_path / "flags.json"
    path.write_text(text)
    assert store.recall(THREE, path) == []
    store.remember(THREE, FLAGS, path)
    assert store.recall(THREE, path) == FLAGS
